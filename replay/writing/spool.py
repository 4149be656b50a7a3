"""A writer's queue on disk: chunks that wait for a server that is away. A file each (sealed.py), oldest first.

    <spool_dir>/<run>-<epoch>/<stream>/<incarnation>-<token>/<sequence number>.chunk
    <spool_dir>/<run>-<epoch>/<stream>/<incarnation>-<token>/lock       the last number acknowledged, and the server
    <spool_dir>/corrupt/...                                  what could not be read, for a person to look at

A file is written under another name first, so a file of this name is whole. Files survive the process, not a power cut:
nothing in here was acknowledged. A directory belongs to the process that holds the lock in it; those of dead processes
can be adopted.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import stat
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from replay.codec import CorruptChunk
from replay.errors import BadInput
from replay.writing.sealed import Sealed, pack, unpack

_log = logging.getLogger(__name__)


def spool_root(spool_dir: str) -> Path:
    """Where the queues of this machine lie; each user has an own place in the temporary directory. Raises BadInput if
    others can write there: what lies in it is committed."""
    if spool_dir:
        return Path(spool_dir)
    path = Path(tempfile.gettempdir()) / f"distwm-spool-{os.getuid()}"
    with suppress(FileNotFoundError):
        found = path.lstat()
        if not _private(found):
            raise BadInput(
                f"{path} is not a directory of this user alone.", "Set replay.spool_dir to another directory."
            )
    return path


def epochs_at(root: Path, run: str) -> list[str]:
    """Of the data sets for which chunks of a run wait, or waited."""
    names = (re.fullmatch(rf"{re.escape(run)}-([0-9a-f]{{16}})", path.name) for path in root.glob(f"{run}-*"))
    return sorted(name[1] for name in names if name)


def stream_directory(root: Path, run: str, epoch: str, stream: str) -> Path:
    """Of one stream on one server's data set. A stream's name may have any characters, and be long."""
    digest = hashlib.blake2b(stream.encode()).hexdigest()[:8]
    return root / f"{run}-{epoch}" / f"{quote(stream, safe='')[:100]}-{digest}"


class Spool:
    """The queue of one life. One thread may add while another takes."""

    def __init__(self, directory: Path, max_bytes: int, server: str = "") -> None:
        """Touches the disk at the first `add`. `server`: where its chunks go."""
        self.directory, self.max_bytes, self.server = directory, max_bytes, server
        self.acknowledged = -1  # sequence number of the last one, as far as the disk knows
        self.bytes = 0
        self.corrupt = 0  # files moved aside
        self._files: deque[tuple[int, int]] = deque()  # sequence number, bytes
        self._guard = threading.Lock()
        self._lock: IO[bytes] | None = None
        self._complained = False

    @staticmethod
    def adopt(directory: Path) -> Spool | None:
        """The queue that a dead process left; None if its process lives, or if it is gone."""
        spool = Spool(directory, 0)
        try:
            lock = open(directory / "lock", "r+b", buffering=0)  # noqa: SIM115
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock.fileno()), os.stat(directory / "lock")):
                return None
            spool._lock = lock
            for path in directory.iterdir():
                if path.suffix == ".chunk" and path.stem.isdigit():
                    spool._files.append((int(path.stem), path.stat().st_size))
        except OSError:
            return None
        spool._files = deque(sorted(spool._files))
        spool.bytes = sum(size for _, size in spool._files)
        noted, _, spool.server = lock.read().decode(errors="replace").strip().partition(" ")
        number = re.fullmatch(r"-?\d+", noted)  # none: a power cut took it
        spool.acknowledged = int(noted) if number else spool.first_seq - 1 if spool.chunks else -1
        return spool

    @property
    def chunks(self) -> int:
        return len(self._files)

    @property
    def first_seq(self) -> int:
        """Of the oldest chunk. Raises IndexError if there is none."""
        return self._files[0][0]

    @property
    def missing(self) -> int:
        """Chunks that were never acknowledged and are not there: a power cut, or a damaged disk."""
        if not self._files:
            return 0
        before = min(self.acknowledged, self.first_seq - 1)  # the oldest may be acknowledged and not gone yet
        return self._files[-1][0] - before - self.chunks

    def add(self, sealed: Sealed) -> bool:
        """False if there is no room, in the budget or on the disk."""
        data = pack(sealed)
        size = sum(len(part) for part in data)
        if self.bytes + size > self.max_bytes:
            return False
        try:
            self._create()
            if not self._files:
                self._note(sealed.entry.id.seq - 1)
            self._write(self._path(sealed.entry.id.seq), data)
        except OSError as error:
            if not self._complained:
                _log.warning("Chunks cannot wait in %s: %s", self.directory, error)
            self._complained = True
            return False
        with self._guard:
            self._files.append((sealed.entry.id.seq, size))
            self.bytes += size
        return True

    def first(self) -> Sealed | None:
        """The oldest chunk; None if none waits. Files that cannot be read are moved aside."""
        while self._files:
            path = self._path(self._files[0][0])
            try:
                return unpack(path.read_bytes())
            except (CorruptChunk, OSError) as error:
                self._set_aside(path, error)
        return None

    def drop_first(self) -> None:
        """Forgets the oldest chunk: it is acknowledged."""
        with suppress(OSError):
            self._note(self.first_seq)
        with self._guard:
            seq, size = self._files.popleft()
            self.bytes -= size
        self._path(seq).unlink(missing_ok=True)

    def close(self) -> None:
        """Lets go of the directory; removes it if nothing waits."""
        if self._lock is None:
            return
        if not self._files:
            for name in ("lock", "next.tmp"):
                (self.directory / name).unlink(missing_ok=True)
            for folder in (self.directory, self.directory.parent, self.directory.parent.parent):
                try:
                    folder.rmdir()
                except OSError:  # others use it
                    break
        self._lock.close()
        self._lock = None

    def _create(self) -> None:
        """Makes the directory, locked from its first moment on."""
        if self._lock is not None:
            return
        root, data_set, stream = (self.directory.parents[n] for n in (2, 1, 0))
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        data_set.mkdir(exist_ok=True, mode=0o700)
        if not _private(data_set.lstat()):
            raise PermissionError(errno.EPERM, "not a directory of this user alone", str(data_set))
        stream.mkdir(exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=self.directory.parent))
        try:
            lock = open(made / "lock", "wb", buffering=0)  # noqa: SIM115
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(f"{_number(-1)} {self.server}\n".encode())
            os.fsync(lock.fileno())  # once in a life: with an older number at worst, an heir takes nothing for a loss
            made.rename(self.directory)
        except OSError:
            (made / "lock").unlink(missing_ok=True)
            made.rmdir()
            raise
        self._lock = lock

    def _note(self, seq: int) -> None:
        """So far everything is acknowledged. Raises OSError."""
        self.acknowledged = seq
        if self._lock is not None:
            os.pwrite(self._lock.fileno(), _number(seq).encode(), 0)

    def _write(self, path: Path, data: list[bytes]) -> None:
        temporary = self.directory / "next.tmp"
        try:
            with open(temporary, "wb", buffering=0) as file:
                for part in data:
                    if file.write(part) != len(part):
                        raise OSError(errno.ENOSPC, "the disk took a part only")
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _set_aside(self, path: Path, error: Exception) -> None:
        self.corrupt += 1
        with self._guard:
            _, size = self._files.popleft()
            self.bytes -= size
        aside = self.directory.parents[2] / "corrupt" / "-".join(path.parts[-4:])
        _log.error("The waiting chunk %s cannot be read (%s); it goes to %s.", path, error, aside)
        try:
            aside.parent.mkdir(exist_ok=True, mode=0o700)
            path.rename(aside)
        except OSError as failed:
            _log.error("It stays where it is: %s", failed)

    def _path(self, seq: int) -> Path:
        return self.directory / f"{seq:012d}.chunk"


def leftovers(stream: Path) -> Iterator[tuple[int, str, Spool]]:
    """(incarnation, token, queue) of the lives of a stream whose processes are dead, oldest first."""
    if not stream.is_dir() or not _private(stream.parent.lstat()):
        return
    for directory in sorted(stream.glob("*-*")):
        incarnation, _, token = directory.name.partition("-")
        if incarnation.isdigit() and (spool := Spool.adopt(directory)):
            yield int(incarnation), token, spool


def _number(seq: int) -> str:
    """Always as long, so that it can be overwritten."""
    return f"{seq:012d}"


def _private(found: os.stat_result) -> bool:
    """Whether it is a directory where nobody else can have put anything."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
