"""The pictures made of frames: reconstructions, open-loop strips and the dream as a video."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from distwm.report.canvas import INK, QUIET, blank
from distwm.report.inputs import Arrays
from distwm.videos import side_by_side, stacked

AMPLIFIED = 3.0  # differences are too faint to see otherwise
PAPER = np.array([255, 255, 255], np.uint8)


def difference(truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """uint8 images alike: white where they agree, darker the more they differ."""
    apart = np.abs(truth.astype(np.float32) - drawn.astype(np.float32))
    return (255 - np.clip(AMPLIFIED * apart, 0, 255)).astype(np.uint8)


def reconstructions(arrays: Arrays, columns: int = 8) -> Figure:
    """Truth, what the tokenizer makes of it, and the difference, one above the other."""
    truth, drawn = arrays["truth"][:columns], arrays["reconstruction"][:columns]
    lines = {"truth": truth, "reconstruction": drawn, f"difference × {AMPLIFIED:g}": difference(truth, drawn)}
    return _table([(name, [*frames]) for name, frames in lines.items()])


def strips(open_loop: Arrays, videos: int = 3, columns: int = 12) -> Figure:
    """For each video what happened over what was dreamt; the dream sees the frames left of the gap, and the actions."""
    truth, prediction, context = open_loop["truth"], open_loop["prediction"], int(open_loop["context"])
    horizon = truth.shape[1] - context
    seen = [*range(max(0, context - 3), context)]
    ahead = np.unique(np.linspace(context, context + horizon - 1, min(columns - len(seen), horizon)).astype(int))
    gap = np.broadcast_to(PAPER, (truth.shape[2], max(2, truth.shape[3] // 5), 3))
    lines = []
    for number in range(min(videos, len(truth))):
        for name, frames in (("truth", truth[number]), ("dream", prediction[number])):
            lines.append((name, [*frames[seen], gap, *frames[ahead]]))
    titles = ["context", *[""] * (len(seen) - 1), "", *(f"+{t - context + 1}" for t in ahead)]
    return _table(lines, titles if seen else titles[1:], group=2)


def dream_video(open_loop: Arrays, videos: int = 3) -> np.ndarray:
    """(T, H, W, 3): for several windows what the model was given (it stops where the dream begins), truth and dream."""
    truth, prediction, context = open_loop["truth"][:videos], open_loop["prediction"], int(open_loop["context"])
    rows = [side_by_side([t[:context], t, p]) for t, p in zip(truth, prediction, strict=False)]
    return stacked(rows)


def _table(lines: list[tuple[str, list[np.ndarray]]], titles: list[str] | None = None, group: int = 0) -> Figure:
    """Rows of frames with their names on the left; `group` rows belong together."""
    gap = 2
    rows = [_row(frames, gap) for _, frames in lines]
    height, width = rows[0].shape[:2]
    breaks = [gap if not group or (n + 1) % group else height // 4 for n in range(len(rows))]
    offsets = np.concatenate(([0], np.cumsum([height + b for b in breaks[:-1]]))).astype(int)
    picture = np.full((offsets[-1] + height, width, 3), 255, np.uint8)
    for offset, row in zip(offsets, rows, strict=True):
        picture[offset : offset + height] = row
    inches = 9.6 - 0.25 - 0.085 * max(len(name) for name, _ in lines)  # what the names leave
    figure = blank(9.6, inches * picture.shape[0] / width + (0.3 if titles else 0.1))
    ax = figure.subplots()
    ax.imshow(picture, interpolation="none", extent=(0, width, picture.shape[0], 0))
    ax.set_yticks(offsets + height / 2, [name for name, _ in lines], color=INK)
    ax.tick_params(axis="y", pad=7)
    ax.set_xticks([])
    if titles:
        widths = np.array([frame.shape[1] + gap for frame in lines[0][1]])
        ax.xaxis.tick_top()
        ax.set_xticks(np.cumsum(widths) - widths / 2, titles, color=QUIET, fontsize=9)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return figure


def _row(frames: list[np.ndarray], gap: int) -> np.ndarray:
    """(H, sum W_i + gaps, 3) on white."""
    blank_column = np.full((frames[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for frame in frames for part in (frame, blank_column)]
    return np.concatenate(parts[:-1], axis=1)
