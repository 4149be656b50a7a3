"""Videos that any browser plays: small pixels enlarged without blur, several of them side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from actors.results import EpisodeResult

WIDTH = 256  # a frame is enlarged up to about this
SEPARATOR = 2  # pixels between two videos
H264: dict[str, Any] = {
    "codec": "libx264",
    "pixelformat": "yuv420p",  # every browser plays it
    "output_params": ["-crf", "16", "-movflags", "+faststart"],
    "macro_block_size": 2,
}
PAPER = np.array([247, 246, 243], np.uint8)  # the report's background

_log = logging.getLogger(__name__)


def write_video(path: Path, frames: np.ndarray, fps: float, width: int = WIDTH) -> Path:
    """(T, H, W, 3) uint8 -> `path` as mp4, or as gif where no encoder runs; returns the path written.

    Frames are enlarged by the whole number that comes closest to `width` from below.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    large = _even(enlarge(frames, max(1, width // frames.shape[2])))
    try:
        target = path.with_suffix(".mp4")
        iio.imwrite(target, large, fps=fps, plugin="FFMPEG", **H264)
    except (OSError, RuntimeError, ImportError) as error:
        _log.warning("no mp4 (%s); %s becomes a gif", error, path.name)
        target = path.with_suffix(".gif")
        iio.imwrite(target, large, duration=1000 / fps, loop=0, plugin="pillow")
    return target


def side_by_side(videos: Sequence[np.ndarray], separator: int = SEPARATOR) -> np.ndarray:
    """(T, H, W_i, 3) each -> (T, H, sum W_i + separators, 3). A shorter video stays on its last frame."""
    steps = max(len(video) for video in videos)
    parts: list[np.ndarray] = []
    for video in videos:
        held = np.concatenate((video, np.repeat(video[-1:], steps - len(video), axis=0)))
        parts += [held, np.broadcast_to(PAPER, (steps, video.shape[1], separator, 3))]
    return np.concatenate(parts[:-1], axis=2)


def stacked(videos: Sequence[np.ndarray], separator: int = SEPARATOR) -> np.ndarray:
    """The same, one below the other."""
    return side_by_side([video.transpose(0, 2, 1, 3) for video in videos], separator).transpose(0, 2, 1, 3)


def enlarge(frames: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel (..., H, W, 3) becomes a square of `factor` pixels."""
    return frames.repeat(factor, axis=-3).repeat(factor, axis=-2)


def save_episodes(directory: Path, results: Sequence[EpisodeResult], fps: float = 12.0) -> list[Path]:
    """One video for each policy, of its filmed episodes side by side: `<policy>-<mode>.mp4`. Returns their paths."""
    filmed: dict[str, list[np.ndarray]] = {}
    for result in results:
        if result.frames is not None:
            filmed.setdefault(f"{result.policy}-{result.mode}", []).append(result.frames)
    return [write_video(directory / f"{name}.mp4", side_by_side(videos), fps) for name, videos in filmed.items()]


def _even(frames: np.ndarray) -> np.ndarray:
    """The last row and column doubled where their number is odd: H.264 with halved chroma asks for even sizes."""
    height, width = frames.shape[1:3]
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
