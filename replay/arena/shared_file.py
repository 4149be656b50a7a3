"""A file of this machine that several processes map: who uses it, who may read and write now, and who removes it.

Beside the file lies `<name>.lock`. Whoever reads holds it shared; whoever writes, opens or removes holds it alone. The
file itself is held shared for as long as a process uses it. Both are `flock`s, which the kernel drops with the process.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from replay.errors import BadInput, TryAgain

HEADER_BYTES = 4096
_ID_BYTES = 64
_STATE = 8  # int64
_OPEN_S = 10.0
_LOCK_S = 1.0  # a stopped process may hold the lock for ever; whoever uses the file can do without
_TOUCH_S = 60.0
_SPARE_BYTES = 2**30  # at most; Ray's objects may be on the same disk

Sound = Callable[[np.ndarray], bool]


def private_directory(directory: str) -> Path:
    """`<directory>/distwm-<uid>`, made if need be; empty stands for /dev/shm, or the temporary directory without one.

    Raises BadInput if others can write there.
    """
    base = Path(directory or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()))
    path = base / f"distwm-{os.getuid()}"
    try:
        base.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise BadInput(
            f"The arena cannot be kept at {path}: {error}.", "Set replay.arena_dir to a directory."
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise BadInput(f"{path} is not a directory of this user alone.", "Set replay.arena_dir to another directory.")
    return path


class SharedFile:
    """`size` bytes: an id, the `state` (8,) int64, and from HEADER_BYTES on whatever its owner keeps there.

    All of it is zeros at first and not yet reserved on disk. Memory that is not reserved must not be touched.
    """

    def __init__(self, path: Path, id: bytes, size: int, sound: Sound) -> None:
        """Opens the file, or makes a new one if there is none or it has another id or size or its state is not `sound`.

        Raises OSError if the disk is full, TryAgain if a process that does not run holds the lock.
        """
        self.path, self._id = path, id.ljust(_ID_BYTES, b"\0")
        self._lock_fd = _hold_lock(path, _OPEN_S)
        try:
            self.fd = self._open(size, sound)
        except BaseException:
            os.close(self._lock_fd)
            raise
        self.map = mmap.mmap(self.fd, size)
        self.state = np.frombuffer(self.map, np.int64, _STATE, _ID_BYTES)
        fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
        self._threads, self._process = threading.Lock(), os.getpid()
        self._touched_s = 0.0
        self._release = weakref.finalize(
            self, _leave, path, self.fd, self._lock_fd, os.getpid()
        )  # also at the end of the process

    @contextmanager
    def holding(self, *, alone: bool) -> Iterator[bool]:
        """Nobody writes meanwhile, and with `alone` nobody reads either, if True; False if that could not be had within
        a second."""
        with self._threads:
            if not (self._is_mine() and _flock(self._lock_fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, _LOCK_S)):
                yield False
                return
            try:
                self._touch()
                yield True
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def reserve(self, begin: int, end: int) -> None:
        """Takes disk space for these bytes. Raises OSError if there is none, or if the disk would be nearly full."""
        disk = os.statvfs(self.path.parent)
        spare = min(disk.f_blocks * disk.f_frsize // 8, _SPARE_BYTES)
        if disk.f_bavail * disk.f_frsize - (end - begin) < spare:
            raise OSError("others need the rest")
        os.posix_fallocate(self.fd, begin, end - begin)

    def close(self) -> None:
        """The last one removes the file. What was read from it stays valid."""
        self._release()

    def _is_mine(self) -> bool:
        """Open, and not inherited: a forked process would share the lock itself, which then keeps nobody out."""
        return self._release.alive and self._process == os.getpid()

    def _touch(self) -> None:
        """Writing to a mapping does not change the time of a file in shared memory."""
        if time.monotonic() - self._touched_s > _TOUCH_S:
            self._touched_s = time.monotonic()
            os.utime(self.fd)

    def _open(self, size: int, sound: Sound) -> int:
        fd = _open(self.path)
        if not self._is_good(fd, size, sound):
            os.close(fd)
            self.path.unlink()  # whoever still maps it keeps it for himself
            fd = _open(self.path)
            try:
                os.ftruncate(fd, size)
                os.posix_fallocate(fd, 0, HEADER_BYTES)
                os.pwrite(fd, self._id, 0)
            except BaseException:
                self.path.unlink()
                os.close(fd)
                raise
        fcntl.flock(fd, fcntl.LOCK_SH)
        return fd

    def _is_good(self, fd: int, size: int, sound: Sound) -> bool:
        if os.fstat(fd).st_size != size:
            return False
        head = os.pread(fd, _ID_BYTES + 8 * _STATE, 0)
        return head.startswith(self._id) and sound(np.frombuffer(head, np.int64, _STATE, _ID_BYTES))


def sweep(directory: Path, pattern: str, idle_s: float) -> None:
    """Removes the files of such names that no process uses and none has used for `idle_s` seconds."""
    for path in directory.glob(pattern):
        try:
            if time.time() - path.stat().st_mtime >= idle_s:
                lock_fd, fd = _hold_lock(path, 0.0), _open(path)
                fcntl.flock(lock_fd, fcntl.LOCK_UN)
                _leave(path, fd, lock_fd, os.getpid())
        except (OSError, TryAgain):
            continue  # somebody else is at it


def _leave(path: Path, fd: int, lock_fd: int, process: int) -> None:
    """Removes the file if nobody else uses it."""
    if process != os.getpid():
        return
    try:
        if _flock(lock_fd, fcntl.LOCK_EX, _LOCK_S) and _flock(fd, fcntl.LOCK_EX, 0.0) and _is_at(path, fd):
            path.unlink()
            _lock_path(path).unlink()
    finally:
        os.close(fd)
        os.close(lock_fd)


def _hold_lock(path: Path, patience_s: float) -> int:
    """The lock of a file, held alone."""
    while True:
        fd = _open(_lock_path(path))
        if not _flock(fd, fcntl.LOCK_EX, patience_s):
            os.close(fd)
            raise TryAgain(
                f"Another process has held {_lock_path(path)} for {patience_s:g} s.",
                "End the process that is stopped there, then run the same command again.",
            )
        if _is_at(_lock_path(path), fd):
            return fd
        os.close(fd)  # it was removed while we waited


def _flock(fd: int, how: int, patience_s: float) -> bool:
    deadline, pause_s = time.monotonic() + patience_s, 1e-5
    while True:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 2e-3)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
