"""Where an index keeps its chunks: one array of records, in which each life of a stream has a stretch of its own.

A life's chunks have positions 1, 2, 3, ... for good, and lie one behind the other in the order of the positions, so
that a window is a range of rows. Stretches grow at their end, lose chunks in front, and move when they are full:

    table    ........ | gone | F  c  c  c  c  c  room | F  c  c  c  room | ........
                             ^ head - 1         ^ tail - 1

The row F in front of the oldest chunk stays where it is moved along: running sums along a life begin there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from replay.schema import ChunkId, EpisodeKey

POSITION_BITS = 40  # of the handle of a chunk: its position; above them is the number of its life
POSITION = (1 << POSITION_BITS) - 1
ROW = np.dtype(
    [
        ("cursor", "i8"),  # at the life's shard
        ("policy_version", "i8"),
        ("checksum", "u4"),
        ("life", "i4"),  # its number
        ("seq", "i4"),
        ("episode", "i4"),
        ("first_step", "i4"),
        ("steps", "i4"),  # 0: the chunk is gone
        ("source", "i4"),  # who acted: a number of the index
        ("group", "i4"),  # of the episode: who acted at its beginning, and its side of the split
    ]
)
BLOCK = 64  # the number of rows is a multiple of it


@dataclass(slots=True, eq=False)
class Stretch:
    """The rows of one life: its chunks on offer have the positions head, ..., tail - 1."""

    name: tuple[str, int]  # stream, incarnation
    shard: int
    number: int
    head: int
    tail: int
    start: int = 0  # first row of the stretch
    size: int = 0  # rows of the stretch
    offset: int = 0  # row - position
    seq: int = -1  # of the newest chunk
    episode: int = -1  # the newest
    group: int = -1  # its group
    reach: int = -1  # its steps; -1 if it has a gap, so that nothing can follow

    def key(self, episode: int) -> EpisodeKey:
        return EpisodeKey(self.name[0], self.name[1], episode)

    def ref(self, row: int) -> int:
        """The handle of a chunk."""
        return self.number << POSITION_BITS | row - self.offset


class Rows:
    """The records of all lives, and columns beside them that move along."""

    def __init__(self) -> None:
        self.table = np.zeros(BLOCK, ROW)
        self.columns: dict[Hashable, np.ndarray] = {}
        self.lives: list[Stretch | None] = []  # by number
        self.named: dict[tuple[str, int], Stretch] = {}
        self.offset = np.zeros(0, np.int64)  # by number
        self.shard = np.zeros(0, np.int64)  # by number
        self.layout = 0  # changes when rows move
        self._order: np.ndarray | None = None
        self._used = 0  # rows below belong to stretches, or did
        self._ends: list[int] = []  # by number: one above the last position ever used
        self._free: list[int] = []

    @property
    def order(self) -> np.ndarray:
        """Numbers of the lives, sorted by stream and incarnation."""
        if self._order is None:
            self._order = np.array([self.named[name].number for name in sorted(self.named)], np.int64)
        return self._order

    def column(self, name: Hashable, dtype: str) -> None:
        """Adds a column of zeros, to be found in `columns`."""
        self.columns[name] = np.zeros(len(self.table), dtype)

    def begin(self, name: tuple[str, int], shard: int) -> Stretch:
        """A life without chunks. Numbers are used again, positions of a number never."""
        if self._free:
            number = self._free.pop()
        else:
            number = len(self.lives)
            self.lives.append(None)
            self._ends.append(1)
            self.offset, self.shard = grown(self.offset, number + 1), grown(self.shard, number + 1)
        self.shard[number] = shard
        life = Stretch(name, shard, number, self._ends[number], self._ends[number])
        self.lives[number], self.named[name], self._order = life, life, None
        return life

    def end(self, life: Stretch) -> None:
        """Forgets a life that has no chunks any more."""
        self._ends[life.number] = life.tail
        del self.named[life.name]
        self.lives[life.number], self._order = None, None
        self._free.append(life.number)

    def append(self, life: Stretch, record: tuple[int, ...]) -> int:
        """Adds the next chunk of a life, with the fields of ROW; returns its row."""
        row = life.tail + life.offset
        if row >= life.start + life.size:
            self._make_room(life)
            row = life.tail + life.offset
        self.table[row] = record
        life.tail += 1
        return row

    def refs(self, rows: np.ndarray) -> np.ndarray:
        """Handles of chunks."""
        lives = self.table["life"][rows].astype(np.int64)
        return lives << POSITION_BITS | rows - self.offset[lives]

    def row(self, ref: int) -> int:
        """Where a chunk is; -1 if it is gone."""
        number, position = ref >> POSITION_BITS, ref & POSITION
        life = self.lives[number] if 0 <= number < len(self.lives) else None
        if life is None or not life.head <= position < life.tail:
            return -1
        row = position + life.offset
        return row if self.table["steps"][row] else -1

    def row_of(self, chunk: ChunkId) -> int:
        """Where a chunk is; -1 if it is gone."""
        life = self.named.get((chunk.stream, chunk.incarnation))
        if life is None:
            return -1
        end = life.tail + life.offset
        row = bisect_left(self.table["seq"], chunk.seq, life.head + life.offset, end)
        return row if row < end and self.table["seq"][row] == chunk.seq and self.table["steps"][row] else -1

    def row_at(self, key: EpisodeKey, step: int) -> int:
        """Where the chunk is that holds a step of an episode; -1 if it is gone."""
        begin, end = self.episode(key)
        row = bisect_right(self.table["first_step"], step, begin, end) - 1
        return row if row >= begin and step < self.table["first_step"][row] + self.table["steps"][row] else -1

    def life_of(self, row: int) -> Stretch:
        """Whose chunk it is."""
        life = self.lives[self.table["life"][row]]
        assert life is not None, "a chunk on offer has a life"
        return life

    def episode(self, key: EpisodeKey) -> tuple[int, int]:
        """The rows [begin, end) of an episode, those of lost chunks included; equal if there are none."""
        life = self.named.get((key.stream, key.incarnation))
        if life is None:
            return 0, 0
        episodes, end = self.table["episode"], life.tail + life.offset
        begin = bisect_left(episodes, key.episode, life.head + life.offset, end)
        return begin, bisect_left(episodes, key.episode + 1, begin, end)

    def _make_room(self, life: Stretch) -> None:
        kept = _kept(life)
        if life.size - kept >= max(1, kept // 16):
            self._move(life, life.start, life.size)
        elif self._used + _wanted(kept) <= len(self.table):
            self._move(life, self._used, _wanted(kept))
            self._used += life.size
        else:
            self._pack(_wanted(kept))

    def _move(self, life: Stretch, start: int, size: int) -> None:
        """Moves a life to another stretch, or to the beginning of its own."""
        for array in (self.table, *self.columns.values()):
            _copy(array, array, life, start)
        self._clear(start + _kept(life) if start == life.start else life.start, life.start + life.size)
        self._place(life, start, size)

    def _pack(self, spare: int) -> None:
        """Puts all stretches one behind the other into new arrays, with a quarter of room behind them."""
        lives = list(self.named.values())
        sizes = [_wanted(_kept(life)) for life in lives]
        capacity = -(-(sum(sizes) * 5 // 4 + spare) // BLOCK) * BLOCK
        places = list(zip(lives, np.cumsum([0, *sizes]).tolist(), strict=False))
        self.table = _packed(self.table, capacity, places)
        for name, column in self.columns.items():
            self.columns[name] = _packed(column, capacity, places)
        for (life, start), size in zip(places, sizes, strict=True):
            self._place(life, start, size)
        self._used = sum(sizes)

    def _place(self, life: Stretch, start: int, size: int) -> None:
        life.start, life.size, life.offset = start, size, start - (life.head - 1)
        self.offset[life.number] = life.offset
        self.layout += 1

    def _clear(self, start: int, stop: int) -> None:
        for array in (self.table, *self.columns.values()):
            array[start:stop] = 0


def ranges(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """start, ..., stop - 1 of all ranges, one behind the other."""
    counts = stops - starts
    shift = np.repeat(starts - (np.cumsum(counts) - counts), counts)
    return shift + np.arange(len(shift))


def _kept(life: Stretch) -> int:
    return life.tail - life.head + 1


def _wanted(kept: int) -> int:
    return kept + max(8, kept // 8)


def _packed(array: np.ndarray, capacity: int, places: Sequence[tuple[Stretch, int]]) -> np.ndarray:
    new = np.zeros(capacity, array.dtype)
    for life, start in places:
        _copy(array, new, life, start)
    return new


def _copy(old: np.ndarray, new: np.ndarray, life: Stretch, start: int) -> None:
    """Copies what is kept of a life."""
    if life.size:
        first, count = life.head - 1 + life.offset, _kept(life)
        new[start : start + count] = old[first : first + count]


def grown(array: np.ndarray, length: int) -> np.ndarray:
    """The array with zeros behind, if it is too short half as many again as needed."""
    if length <= len(array):
        return array
    new = np.zeros((length + length // 2 + 8, *array.shape[1:]), array.dtype)
    new[: len(array)] = array
    return new
