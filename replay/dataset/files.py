"""Files that are whole after a crash at any moment, and a directory that one process at a time may write."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

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


class DirectoryWriter:
    """Writes a directory, which it makes and locks. One writer at a time; not for several threads at once.

    What is unfinished is committed or abandoned as a whole.
    """

    def __init__(self, directory: Path) -> None:
        """Call it last: it goes on with what is there. Raises as `own`, and as `_go_on`."""
        self.directory = Path(directory)
        self._lock = own(self.directory)
        try:
            self._go_on()
        except BaseException:
            self._lock.close()
            raise

    def commit(self) -> None:
        """Makes what was added last, whatever happens from now on."""
        raise NotImplementedError

    def close(self) -> None:
        """Commits and lets others write."""
        try:
            self.commit()
        finally:
            self._abandon()
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()  # after an error too: what was added is whole

    def _go_on(self) -> None:
        """Takes over what is there, and clears away what a killed writer left."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """Forgets what is unfinished. Harmless when repeated."""
        raise NotImplementedError

    @contextmanager
    def _writing(self, spoilt_by: type[BaseException] = OSError) -> Iterator[None]:
        """What is unfinished goes when this is interrupted by `spoilt_by`. Raises BadInput if the disk fails."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, spoilt_by):
                self._abandon()
            if not isinstance(error, OSError):
                raise
            raise BadInput(
                f"{self.directory} cannot be written: {error.strerror or error}.",
                "Make room there, then run the same command again: what is complete stays.",
            ) from error
