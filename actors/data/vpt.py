"""Recordings of VPT's contractors: pairs of `<name>.mp4` and `<name>.jsonl`, a line for each frame at 20 Hz."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.data.frames import BadVideo, frames
from actors.data.options import ReadOptions, no_other_names
from actors.data.segments import Damage, Labels, SegmentReader, Step
from actors.data.vpt_actions import BUTTONS, DIM, TickReader
from replay.dataset.episodes import Unreadable
from replay.errors import BadInput
from replay.schema import EpisodeSpec

FPS, SIZE, SEGMENT_STEPS = 20.0, 64, 1000
SCREEN, CURSOR = (1280, 720), 32  # pixels of the mouse's positions; height and width of a cursor in them
MAX_LINE_BYTES = 2**20
_VERSION = re.compile(r"\d+\.\d+")
_log = logging.getLogger(__name__)


class Lost(Damage):
    """And all that comes behind."""


@dataclass(slots=True)
class _Count:
    """Whether lines still lie beside their frames: behind a damaged place, the recorder's count of ticks must say so,
    for an end of line may be among what is lost."""

    index: int = -1  # of the last line that could be read
    number: int | None = -1  # its tick
    doubtful: bool = False  # lines in between could not be read

    def holds(self, index: int, number: int | None) -> bool:
        """Of the next line that can be read."""
        known = number is not None and self.number is not None
        holds = not self.doubtful or (known and number - self.number == index - self.index)  # type: ignore[operator]
        self.index, self.number, self.doubtful = index, number, False
        return holds


class VptRecording:
    """One pair. Implements `Recording`."""

    def __init__(self, name: str, video: Path, lines: Path, size: int, drop_null: bool) -> None:
        self.name, self.states = name, count_lines(lines)
        self._video, self._lines, self._size, self._drop_null = video, lines, size, drop_null

    def steps(self) -> Iterator[Step | Damage]:
        """Frames that no line is about are passed over, and so are lines that the video has no frame for; and what
        comes behind damaged lines, unless the recorder's count shows that no line is lost."""
        ticks, count, index, place = TickReader(_version(self._video)), _Count(), 0, 0
        with self._lines.open("rb") as file:
            pictures = frames(self._video, self._size)
            try:
                for index, frame in enumerate(pictures):
                    line = file.readline(MAX_LINE_BYTES)
                    if not line:
                        break
                    step = self._step(ticks, count, index, frame, line, place)
                    place += len(line)
                    if step is not None:
                        yield step
                    if isinstance(step, Lost):
                        break
                else:
                    if index + 1 < self.states:
                        _log.warning("%s has %d frames for %d lines.", self._video, index + 1, self.states)
            except BadVideo as error:
                yield Damage(index + 1 if place else 0, f"{error}; what comes behind is left out")
            finally:
                pictures.close()  # type: ignore[attr-defined]

    def _step(
        self, ticks: TickReader, count: _Count, index: int, frame: np.ndarray, line: bytes, place: int
    ) -> Step | Damage | None:
        where = f"{self._lines}, line {index + 1} at byte {place}"
        try:
            tick = ticks.read(line)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            count.doubtful = True
            return Damage(index, f"{where}: {type(error).__name__}: {error}".splitlines()[0])
        if not count.holds(index, tick.number):
            return Lost(index, f"{where}: nothing shows that lines from here on lie beside their frames; left out")
        if tick.null and self._drop_null:
            return None
        seen = frame if tick.cursor is None else with_cursor(frame, *tick.cursor)
        return Step(index, {"image": seen}, tick.action)


def open_vpt(path: Path, rename: Mapping[str, str], options: ReadOptions) -> SegmentReader:
    """A folder with pairs, searched to any depth, or one of the files. Raises BadInput if there is no pair."""
    no_other_names(rename)
    path, size = Path(path).resolve(), options.image_size or SIZE
    videos = sorted(path.rglob("*.mp4")) if path.is_dir() else [path.with_suffix(".mp4")]
    root = path if path.is_dir() else path.parent
    recordings, wrong = [], []
    for video in videos:
        name, lines = video.relative_to(root).with_suffix("").as_posix(), video.with_suffix(".jsonl")
        if lines.is_file() and video.is_file():
            recordings.append(
                (VptRecording(name, video, lines, size, options.drop_null), Labels(source="vpt-contractor"))
            )
        else:
            missing = lines if video.is_file() else video
            wrong.append(Unreadable(name=name, reason=f"{missing} is missing, so {name} is left out"))
    if not recordings:
        raise BadInput(f"{path} holds no pair of .mp4 and .jsonl.", "Give the folder that the recordings are in.")
    origin = {
        "format": "vpt",
        "path": str(path),
        "fps": FPS,
        "rewards": "none are recorded: zeros",
        "action": [*BUTTONS, "camera: 11 x 11 mu-law bins, pitch first"],
        "null_actions": "left out" if options.drop_null else "kept",
    }
    spec = EpisodeSpec.build({"image": ((size, size, 3), "uint8")}, DIM)
    return SegmentReader(spec, origin, recordings, options.segment_steps or SEGMENT_STEPS, wrong)


def with_cursor(frame: np.ndarray, x: float, y: float) -> np.ndarray:
    """The frame with a white cursor, which the recorder left out, at (x, y) of the screen: a policy must see it.

    An arrow fills half of its square; a pixel takes white by the part of it that the square covers.
    """
    height, width = frame.shape[:2]
    across = _covered(x, SCREEN[0], width)
    down = _covered(y, SCREEN[1], height)
    share = 0.5 * down[:, None, None] * across[None, :, None]
    return np.rint(frame * (1 - share) + 255 * share).astype(np.uint8)


def count_lines(path: Path) -> int:
    """Of a text file; a last line without an end counts."""
    total, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(2**20):
            total, last = total + block.count(b"\n"), block[-1:]
    return total + (last != b"\n")


def _covered(begin: float, screen: int, pixels: int) -> np.ndarray:
    """The part of each pixel along one axis that the cursor covers, (pixels,)."""
    low, high = begin * pixels / screen, (begin + CURSOR) * pixels / screen
    edges = np.arange(pixels + 1)
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, 1)


def _version(path: Path) -> str:
    """Of the recorder: the nearest folder that is called like one, such as 6.9."""
    return next((part for part in reversed(path.parent.parts) if _VERSION.fullmatch(part)), "")
