"""Frames of a video file at the size that is wanted, one after the other, out of an ffmpeg process."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import imageio_ffmpeg
import numpy as np

# Frames as they are stored, none doubled or dropped for a steady rate; and none that is only guessed.
_INPUT = ["-nostdin", "-v", "error", "-xerror", "-err_detect", "explode", "-threads", "1"]
_OUTPUT = ["-an", "-fps_mode", "passthrough", "-threads", "1", "-f", "rawvideo", "-pix_fmt", "rgb24"]
END_S = 10.0  # for a process that was told to end


class BadVideo(Exception):
    """A file that is no video, or a damaged one; names the file and the frame."""


def frames(path: Path, size: int) -> Iterator[np.ndarray]:
    """(size, size, 3) uint8 RGB, averaged over areas where the file has more pixels. One frame is in memory at a time.

    Raises BadVideo where the file is damaged; a file that ends where it says is no error.
    """
    if not path.is_file():
        raise BadVideo(f"{path} is missing")
    number, length = 0, size * size * 3
    scale = ["-vf", rf"scale={size}:{size}:flags=area"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *_INPUT, "-i", str(path), *scale, *_OUTPUT, "-"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints)
        try:
            assert process.stdout is not None
            while len(content := process.stdout.read(length)) == length:
                yield np.frombuffer(content, np.uint8).reshape(size, size, 3)
                number += 1
            code = process.wait(END_S)
            complaints.seek(0)
            said = complaints.read(65536).decode(errors="replace").strip().splitlines()
            if code or said:
                raise BadVideo(f"{path}, frame {number}: {_brief(said, path) or f'ffmpeg ended with {code}'}")
        finally:
            _end(process)


def _brief(said: list[str], path: Path) -> str:
    """The first complaint, without the address of ffmpeg's own object and the name of the file."""
    words = said[0].partition("] ")[2] or said[0] if said else ""
    return words.replace(f"{path}: ", "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Lets nothing run on of a video that is not read to its end."""
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
