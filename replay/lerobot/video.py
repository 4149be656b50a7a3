"""Frames out of video files, decoded one after the other by ffmpeg in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

# Frames as they are stored, none doubled or dropped for a steady rate; and no frame that is only guessed.
_STRICT = ["-xerror", "-threads", "1"]
_AS_STORED = ["-fps_mode", "passthrough"]


class BadVideo(Exception):
    """A file that is no video, or one with too few or damaged frames."""


class VideoFile:
    """Reads forward: asked for frames further on, it goes on decoding; asked for another place, it starts there."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]) -> None:
        """`shape` is (height, width, 3)."""
        self.path = path
        self._fps, self._shape = fps, shape
        self._frames: Iterator[Any] | None = None
        self._next = 0  # number of the frame that comes next

    def read(self, begin_s: float, count: int) -> np.ndarray:
        """(count, H, W, 3) uint8: the frames from `begin_s` seconds on. Raises BadVideo."""
        first = round(begin_s * self._fps)
        out = np.empty((count, *self._shape), np.uint8)
        try:
            if self._frames is None or first != self._next:
                self._start(first)
            assert self._frames is not None
            for row in range(count):
                frame = next(self._frames)
                self._next += 1
                out[row] = np.frombuffer(frame, np.uint8).reshape(self._shape)
        except StopIteration:
            self.close()
            raise BadVideo(f"{self.path} ends or is damaged at frame {self._next}") from None
        except (OSError, RuntimeError, ValueError) as error:
            self.close()
            raise BadVideo(f"{self.path}, frame {self._next}: {str(error).splitlines()[0]}") from error
        return out

    def close(self) -> None:
        """Ends the process."""
        frames, self._frames = self._frames, None
        if frames is not None:
            frames.close()  # type: ignore[attr-defined]

    def _start(self, first: int) -> None:
        self.close()
        if not self.path.is_file():
            raise BadVideo(f"{self.path} is missing")
        seek = ["-ss", f"{(first - 0.5) / self._fps:.6f}"] if first else []
        frames = imageio_ffmpeg.read_frames(
            str(self.path), pix_fmt="rgb24", input_params=[*_STRICT, *seek], output_params=_AS_STORED
        )
        self._frames, self._next = frames, first
        size = tuple(next(frames)["size"])
        if size != (self._shape[1], self._shape[0]):
            raise BadVideo(f"{self.path} has {size[0]}x{size[1]} pixels, not {self._shape[1]}x{self._shape[0]}")
