"""Tokenizers of actions: error by layers and by bits, beside their peers; which codes are used; what chunks become.

Shapes: L layers, K codes, E chunks that are shown, T steps of a chunk, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from distwm.report.canvas import BLUE, CORAL, FAINT, INK, SAGE, SAND, SLATE, blank, quiet
from distwm.report.inputs import Arrays

PARTS = (("norm", "all, normalised", BLUE), ("arm", "arm", SAGE), ("gripper", "gripper", SAND))
METHODS = (
    ("rvq", "residual VQ of each step (learnt)", BLUE, "-"),
    ("bands", "residual VQ of the chunk's transform, by bands", CORAL, "-"),
    ("fast", "FAST (cosines, byte pairs)", SAGE, "-"),
    ("fast_apart", "FAST, gripper apart", SAGE, "--"),
    ("dct8", "first cosines, 8 bits each", SLATE, "-"),
    ("dct6", "first cosines, 6 bits each", SLATE, "--"),
    ("dct32", "first cosines, float32", FAINT, "-"),
    ("steps", "residual k-means of each step", SAND, "-"),
)
EXACT = 1e-6  # errors below it are no errors of coding
SHOWN_LAYERS = (1, 2, 4, 8)
SHOWN_CHUNKS = 3
AXES_OF_ACTIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def by_layers(arrays: Arrays) -> Figure:
    """Left, the mean squared error by the number of layers (log scale), with one standard deviation over chunks; right,
    how many times fewer bits than 32 a number that is."""
    figure = blank(9.6, 3.2)
    errors, ratios = figure.subplots(1, 2)
    layers = np.asarray(arrays["layers"])
    for key, label, colour in PARTS:
        if f"mse_{key}" in arrays and np.isfinite(arrays[f"mse_{key}"]).all():
            mean = np.maximum(arrays[f"mse_{key}"], 1e-7)
            errors.plot(layers, mean, color=colour, marker="o", ms=4, label=label)
    spread = arrays["std_norm"]
    low, high = np.maximum(arrays["mse_norm"] - spread, 0.1 * arrays["mse_norm"]), arrays["mse_norm"] + spread
    errors.fill_between(layers, low, high, color=BLUE, alpha=0.12, linewidth=0)
    errors.set_yscale("log")
    errors.set_title("mean squared error")
    errors.legend()
    ratios.plot(layers, arrays["ratio"], color=BLUE, marker="o", ms=4)
    for x, y in zip(layers, arrays["ratio"], strict=True):
        ratios.annotate(f"{y:.3g}x", (x, y), xytext=(4, 5), textcoords="offset points", color=INK, fontsize=9)
    ratios.set_title("bits of float32 over bits of the codes")
    ratios.set_ylim(0, 1.15 * float(np.max(arrays["ratio"])))
    for ax in (errors, ratios):
        _layers_below(ax)
    return figure


def by_bits(arrays: Arrays) -> Figure:
    """Both scales logarithmic; each method a line through its points."""
    figure = blank(9.6, 4.8)
    ax = figure.subplots()
    for method, label, colour, style in METHODS:
        if f"{method}_bits" not in arrays:
            continue
        bits, error = np.asarray(arrays[f"{method}_bits"]), np.asarray(arrays[f"{method}_mse_norm"])
        order = [place for place in np.argsort(bits) if error[place] > EXACT]
        ax.plot(bits[order], error[order], style, color=colour, marker="o", ms=3.5, label=label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("bits of a chunk")
    ax.set_ylabel("mean squared error, normalised")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    quiet(ax)
    return figure


def by_phase(arrays: Arrays) -> Figure:
    """One row a phase: the share of its chunks that need so many layers, and the mean."""
    counts = np.asarray(arrays["counts"], np.float64)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = blank(9.6, 0.9 + 0.5 * len(counts))
    ax = figure.subplots()
    shades = mpl.colormaps["Blues"](np.linspace(0.25, 1.0, counts.shape[1]))
    left = np.zeros(len(counts))
    for place in range(counts.shape[1]):
        label = f"{place + 1}" if place < counts.shape[1] - 1 else "more than there are"
        ax.barh(range(len(counts)), share[:, place], left=left, color=shades[place], label=label, height=0.62)
        left += share[:, place]
    names = [
        f"{phase}: {mean:.2g} ({count} chunks)" if count else f"{phase} (no chunk)"
        for phase, mean, count in zip(arrays["phases"], arrays["mean"], arrays["chunks"], strict=True)
    ]
    ax.set_yticks(range(len(counts)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    drawn = ax.get_legend_handles_labels()
    figure.legend(*drawn, loc="outside upper center", ncols=counts.shape[1], title="layers needed")
    quiet(ax)
    return figure


def usage(layers: Arrays, counts_LK: np.ndarray) -> Figure:
    """Above, how often each code of each layer occurs, the most frequent first; below, the share that occurs at all and
    the perplexity: how many codes there would be if they were used alike."""
    figure = blank(9.6, 4.4)
    codes, lines = figure.subplots(2, 1, height_ratios=(3, 2))
    share = np.sort(counts_LK / np.maximum(counts_LK.sum(1, keepdims=True), 1), 1)[:, ::-1]
    image = codes.imshow(share, aspect="auto", cmap="Blues", vmin=0, vmax=float(np.quantile(share, 0.995)) or 1.0)
    figure.colorbar(image, ax=codes, label="share", pad=0.01)
    codes.set_yticks(range(len(share)), [str(n) for n in layers["layers"]])
    codes.set_ylabel("layer")
    codes.set_xlabel("codes, the most frequent first")
    codes.grid(False)
    lines.plot(layers["layers"], layers["usage"], color=BLUE, marker="o", ms=4, label="used at all")
    effective = np.asarray(layers["perplexity"]) / counts_LK.shape[1]
    lines.plot(layers["layers"], effective, color=SAGE, marker="o", ms=4, label="perplexity over the number of codes")
    lines.set_ylim(0, 1.05)
    lines.yaxis.set_major_formatter(PercentFormatter(1.0))
    lines.legend(loc="lower left", ncols=2)
    _layers_below(lines)
    return figure


def examples(original_ETA: np.ndarray, reconstructed_LETA: np.ndarray) -> Figure:
    """Each row a held-out chunk, each column a number of its actions: as it was, and after some of the layers."""
    shown = min(SHOWN_CHUNKS, len(original_ETA))
    rows = np.linspace(0, len(original_ETA) - 1, shown).round().astype(int)
    width = original_ETA.shape[-1]
    figure = blank(9.6, 0.5 + 1.25 * shown)
    grid = figure.subplots(shown, width, sharex=True, squeeze=False)
    depths = [n for n in SHOWN_LAYERS if n <= len(reconstructed_LETA)]
    for place, row in enumerate(rows):
        for dim in range(width):
            _trace(grid[place, dim], original_ETA[row, :, dim], reconstructed_LETA[:, row, :, dim], depths)
            grid[place, dim].set_ylim(*_range(original_ETA[..., dim]))
            if place == 0:
                grid[0, dim].set_title(AXES_OF_ACTIONS[dim] if width == len(AXES_OF_ACTIONS) else f"action {dim}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _trace(ax: Axes, truth_T: np.ndarray, found_LT: np.ndarray, depths: Sequence[int]) -> None:
    steps = np.arange(len(truth_T))
    ax.plot(steps, truth_T, color=INK, linewidth=2.5, alpha=0.35, label="original")
    colours = dict(zip(SHOWN_LAYERS, (CORAL, SAND, SAGE, BLUE), strict=True))
    for depth in depths:
        label = f"{depth} layer" + ("s" if depth > 1 else "")
        ax.plot(steps, found_LT[depth - 1], color=colours[depth], linewidth=1.1, label=label)
    ax.tick_params(labelsize=7)
    ax.set_xticks([])
    quiet(ax)


def _range(values: np.ndarray) -> tuple[float, float]:
    """A little more than there is, so that columns are alike."""
    middle, half = 0.5 * float(values.max() + values.min()), max(0.15, 0.6 * float(np.ptp(values)))
    return middle - half, middle + half


def _layers_below(ax: Axes) -> None:
    ax.set_xlabel("layers")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    quiet(ax)
