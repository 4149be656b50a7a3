"""Decoded chunks of one machine in one file of shared memory, for all processes of a run that read there.

The file is a ring of steps. Every field has its own array over the rows of the ring, so a batch is one `numpy.take` per
field. Chunks go in one behind the other, around the end if need be; the oldest make room, which costs uniform draws
nothing against least recently used, since they use every chunk alike.

    page 0     an id, and the counts that all processes share (see `_COUNTS`)
    records    ring of (content key, start), one per chunk, in the order of their arrival: other processes follow it
    fields     (rows, *shape) each, page aligned

Starts count steps ever put; row = start % rows. A chunk is whole as long as its start is not below `floor`. A writer
raises `floor` before it overwrites anything and counts its record after everything is in place, all of it under an
exclusive lock, so a `kill -9` anywhere leaves the counted chunks whole; the kernel frees the lock.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from replay.arena.shared_file import HEADER_BYTES, SharedFile, sweep
from replay.schema import EpisodeSpec, FieldSpec

_log = logging.getLogger(__name__)

_VERSION = 1
_SUFFIX, _ID_DIGITS = ".arena", 12
_IDLE_S = 3600.0
_GROW_BYTES = 2**25
_LARGE_BYTES = 2048  # of a row
_STEPS_PER_RECORD = 8  # shorter chunks than this on average fill the records before the rows
_RECORD = np.dtype([("key", "V16"), ("start", "<i8")])
# reserved: rows with disk space; lost: rows for which there was none; head: steps ever put; floor: the first start that
# is still whole; count: chunks ever put.
_COUNTS = _RESERVED, _LOST, _HEAD, _FLOOR, _COUNT = range(5)


class Arena:
    """A cache: what it does not hold, or cannot say within a second, its user gets elsewhere. For several threads."""

    def __init__(self, directory: Path | None, name: str, spec: EpisodeSpec, max_bytes: int) -> None:
        """Opens the arena `name`, which other processes may have filled. Without a directory, or with too few bytes for
        a step, it holds nothing."""
        self._spec = spec
        self._capacity = max(0, max_bytes - 2 * HEADER_BYTES * (1 + len(spec.fields))) // _row_bytes(spec)
        self._records_size = self._capacity // _STEPS_PER_RECORD + 2
        self._starts: dict[bytes, int] = {}  # content key -> start, also of some that are overwritten by now
        self._seen = self._live = 0  # records; entries of `_starts` when it was last tidied
        self._file = self._open(directory, name) if directory and self._capacity else None

    def gather(
        self, keys: Sequence[bytes], to: np.ndarray, begin: np.ndarray, count: np.ndarray, out: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Copies pieces of chunks: of chunk `keys[i]` the steps [begin[i], begin[i] + count[i]) to rows `to[i]` and on.

        keys (P,) of 16 bytes; to, begin, count (P,) int64; out (rows, *shape) by field. Returns which were there (P,).
        The other rows of `out` hold anything afterwards.
        """
        nothing = np.zeros(len(keys), bool)
        if self._file is None:
            return nothing
        with self._file.holding(alone=False) as held:
            if not held:
                return nothing
            self._follow()
            floor = int(self._file.state[_FLOOR])
            starts = np.array([self._starts.get(key, -1) for key in keys], np.int64)
            found = starts >= floor
            if found.all():
                self._copy(starts + begin, to, count, out)
            elif found.any():
                self._copy((starts + begin)[found], to[found], count[found], out)
            return found

    def put(self, key: bytes, arrays: Mapping[str, np.ndarray]) -> bool:
        """Keeps a chunk until newer ones need its place. `key` has 16 bytes; arrays (T, *shape) by field.

        Returns whether it is there now.
        """
        steps = len(arrays["reward"])
        if self._file is None or steps > self._rows():
            return False
        with self._file.holding(alone=True) as held:
            if not held:
                return False
            self._follow()
            state = self._file.state
            if self._starts.get(key, -1) >= state[_FLOOR]:
                return True
            if not self._reserve(min(int(state[_HEAD]) + steps, self._rows())) and steps > self._rows():
                return False
            self._write(key, steps, arrays)
            return True

    def close(self) -> None:
        """The last process removes the file."""
        if self._file is not None:
            self._file.close()

    def _open(self, directory: Path, name: str) -> SharedFile | None:
        layout = {"version": _VERSION, "rows": self._capacity, "boot": _boot()}
        layout |= {"fields": [asdict(f) for f in self._spec.fields]}
        id = hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()
        offsets = self._offsets()
        try:
            sweep(directory, f"*{_SUFFIX}", _IDLE_S)
            file = SharedFile(
                directory / f"{name}-{id[:_ID_DIGITS]}{_SUFFIX}", id.encode(), offsets[-1], self._is_sound
            )
            file.reserve(0, offsets[0])
        except OSError as error:
            _log.warning("No arena at %s (%s): every batch reads from the replay.", directory, error)
            return None
        self._records = np.frombuffer(file.map, _RECORD, self._records_size, HEADER_BYTES)
        self._fields: dict[str, np.ndarray] = {}
        for field, offset in zip(self._spec.fields, offsets, strict=False):
            size = self._capacity * math.prod(field.shape)
            flat = np.frombuffer(file.map, field.dtype, size, offset)
            self._fields[field.name] = flat.reshape(self._capacity, *field.shape)
        return file

    def _offsets(self) -> list[int]:
        """Where the fields begin, and the end."""
        offsets = [_page(HEADER_BYTES + self._records_size * _RECORD.itemsize)]
        for field in self._spec.fields:
            offsets.append(offsets[-1] + _page(self._capacity * _bytes(field)))
        return offsets

    def _is_sound(self, state: np.ndarray) -> bool:
        reserved, lost, head, floor, count = (int(state[i]) for i in _COUNTS)
        rows = self._capacity - lost
        return lost >= 0 and 0 <= reserved <= rows and 0 <= floor <= head <= floor + rows and count >= 0

    def _rows(self) -> int:
        assert self._file is not None
        return self._capacity - int(self._file.state[_LOST])

    def _follow(self) -> None:
        """Takes note of what other processes put."""
        assert self._file is not None
        count, floor = int(self._file.state[_COUNT]), int(self._file.state[_FLOOR])
        if count == self._seen:
            return
        first = max(self._seen, count - self._records_size + 1)
        recent = self._records[np.arange(first, count) % self._records_size]
        self._starts.update(zip(recent["key"].tolist(), recent["start"].tolist(), strict=True))
        self._seen = count
        if len(self._starts) > 2 * self._live + 1000:
            self._starts = {key: start for key, start in self._starts.items() if start >= floor}
            self._live = len(self._starts)

    def _copy(self, starts: np.ndarray, to: np.ndarray, count: np.ndarray, out: Mapping[str, np.ndarray]) -> None:
        size = self._rows()
        first = starts % size
        large = [name for name in out if self._fields[name].strides[0] >= _LARGE_BYTES]
        if large:
            self._copy_pieces(first, to, count, {name: out[name] for name in large})
        if len(large) == len(out):
            return
        before = np.cumsum(count) - count
        step = np.arange(before[-1] + count[-1])
        rows = np.zeros(len(next(iter(out.values()))), np.int64)
        rows[np.repeat(to - before, count) + step] = np.repeat(first - before, count) + step
        for name, array in out.items():
            if name not in large:  # the usual mode would copy twice
                np.take(self._fields[name][:size], rows, axis=0, out=array, mode="wrap")

    def _copy_pieces(self, first: np.ndarray, to: np.ndarray, count: np.ndarray, out: Mapping[str, np.ndarray]) -> None:
        """Piece by piece: a tenth faster than row by row, where rows are large."""
        size = self._rows()
        pieces = list(zip(first.tolist(), to.tolist(), count.tolist(), strict=True))
        pieces += [(0, at + size - row, row + n - size) for row, at, n in pieces if row + n > size]
        for name, array in out.items():
            field = self._fields[name][:size]
            for row, at, n in pieces:
                part = field[row : row + n]
                array[at : at + len(part)] = part

    def _write(self, key: bytes, steps: int, arrays: Mapping[str, np.ndarray]) -> None:
        assert self._file is not None
        state, rows = self._file.state, self._rows()
        start, count = int(state[_HEAD]), int(state[_COUNT])
        floor = max(int(state[_FLOOR]), start + steps - rows)
        if (oldest := count - self._records_size + 2) > 0:  # the one before is overwritten now
            floor = max(floor, int(self._records["start"][oldest % self._records_size]))
        state[_FLOOR] = floor
        row = start % rows
        first = min(steps, rows - row)
        for name, field in self._fields.items():
            field[row : row + first] = arrays[name][:first]
            field[: steps - first] = arrays[name][first:]
        self._records[count % self._records_size] = (key, start)
        state[_HEAD], state[_COUNT] = start + steps, count + 1

    def _reserve(self, rows: int) -> bool:
        """Grows the part with disk space to `rows`; if there is none, the ring ends where that part ends, for good."""
        assert self._file is not None
        reserved = int(self._file.state[_RESERVED])
        if rows <= reserved:
            return True
        grown = max(rows, min(self._rows(), reserved + _GROW_BYTES // _row_bytes(self._spec)))
        try:
            for field, offset in zip(self._spec.fields, self._offsets(), strict=False):
                self._file.reserve(offset + reserved * _bytes(field), offset + grown * _bytes(field))
        except OSError as error:
            self._file.state[_LOST] = self._capacity - reserved
            _log.warning(
                "The arena %s stays at %d of %d MB: its disk is full (%s).",
                self._file.path,
                reserved * _row_bytes(self._spec) >> 20,
                self._capacity * _row_bytes(self._spec) >> 20,
                error,
            )
            return False
        self._file.state[_RESERVED] = grown
        return True


def discard(directory: Path, name: str, patience_s: float = 2.0) -> None:
    """Removes what killed processes have left of an arena; waits so long for some that are about to end."""
    deadline = time.monotonic() + patience_s
    pattern = f"{glob.escape(name)}-{'?' * _ID_DIGITS}{_SUFFIX}"
    while True:
        sweep(directory, pattern, 0.0)
        if not any(directory.glob(pattern)) or time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _bytes(field: FieldSpec) -> int:
    return np.dtype(field.dtype).itemsize * math.prod(field.shape)


def _row_bytes(spec: EpisodeSpec) -> int:
    """Of a step, with its share of the records."""
    return sum(_bytes(f) for f in spec.fields) + math.ceil(_RECORD.itemsize / _STEPS_PER_RECORD)


def _page(size: int) -> int:
    return -(-size // HEADER_BYTES) * HEADER_BYTES


def _boot() -> str:
    """Names this boot of the machine: a file on a real disk may be torn by a power cut."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text() if path.exists() else ""
