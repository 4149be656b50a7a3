"""Files that are whole after a crash at any moment, and a directory that one process at a time may write."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from replay.errors import BadInput, TryAgain

LOCK = ".lock"


def replace_file(path: Path, content: bytes) -> None:
    """Puts `content` there so that after a crash the file is the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes renames in it last."""
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def own(directory: Path) -> IO[str]:
    """Makes the directory if need be and locks it until the file is closed or this process ends.

    Raises BadInput if it cannot be written, TryAgain if another process has it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        sync_directory(directory.parent)
        lock = (directory / LOCK).open("w")
    except OSError as error:
        raise BadInput(f"{directory} cannot be written: {error.strerror}.", "Give one that you may write.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise TryAgain(
            f"Another process writes in {directory}.", "Wait for its end, or give another directory."
        ) from error
    return lock
