"""Video without labels: what a world model can look at. The actions are zeros, and the data set's origin says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from actors.data.frames import BadVideo, frames
from actors.data.options import ReadOptions, no_other_names
from actors.data.segments import Damage, Labels, SegmentReader, Step
from replay.errors import BadInput
from replay.schema import EpisodeSpec

SIZE, SEGMENT_STEPS = 64, 1000


class VideoRecording:
    """One file. Implements `Recording`; `states` is found out by looking at each frame once."""

    def __init__(self, name: str, path: Path, size: int, action_dim: int) -> None:
        import imageio_ffmpeg

        self.name, self._path, self._size = name, path, size
        self._action = np.zeros(action_dim, np.float32)
        try:
            self.states = max(1, imageio_ffmpeg.count_frames_and_secs(str(path))[0])
        except (RuntimeError, OSError):
            self.states = 1  # damaged: `steps` says where

    def steps(self) -> Iterator[Step | Damage]:
        index = -1
        try:
            for index, frame in enumerate(frames(self._path, self._size)):
                yield Step(index, {"image": frame}, self._action)
        except BadVideo as error:
            yield Damage(index + 1, f"{error}; what comes behind is left out")


def open_video(path: Path, rename: Mapping[str, str], options: ReadOptions) -> SegmentReader:
    """A folder with .mp4 files, searched to any depth, or one file. Raises BadInput if there is none."""
    no_other_names(rename)
    path, size = Path(path).resolve(), options.image_size or SIZE
    files = sorted(path.rglob("*.mp4")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise BadInput(f"There is no .mp4 at {path}.", "Give a video file, or a folder that has some.")
    root = path if path.is_dir() else path.parent
    recordings = [
        (
            VideoRecording(f.relative_to(root).with_suffix("").as_posix(), f, size, options.action_dim),
            Labels(source="video"),
        )
        for f in files
    ]
    origin = {
        "format": "video",
        "path": str(path),
        "labels": "none",
        "rewards": "none are recorded: zeros",
        "action": f"unknown: zeros of width {options.action_dim}",
    }
    spec = EpisodeSpec.build({"image": ((size, size, 3), "uint8")}, options.action_dim)
    return SegmentReader(spec, origin, recordings, options.segment_steps or SEGMENT_STEPS)
