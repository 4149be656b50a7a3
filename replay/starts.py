"""How many windows start in each chunk, as running sums along each life: what a draw looks its numbers up in.

A window of L steps may start at a step if L - 1 more follow it in its run: its episode, or with `across` the episodes
of a life that follow each other without a chunk missing. So the count of a chunk depends on what comes behind it alone.
New chunks change the counts of the last L - 1 steps before them, and those that leave in front change none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from replay.rows import Rows, Stretch, grown, ranges

Groups = Callable[[], np.ndarray]  # (groups,) bool: which episodes may be drawn


class Starts:
    """The windows of one length, numbered: by life in sorted order, by episode, by first step. The numbers depend on
    the episodes alone, not on how and when their chunks arrived."""

    def __init__(self, rows: Rows, length: int, across: bool, groups: Groups) -> None:
        self.length, self.across = length, across
        self.away: frozenset[int] = frozenset()  # shards whose chunks are not drawn
        self.changed = {life.number for life in rows.lives if life is not None}
        self._rows, self._groups = rows, groups
        rows.column(self, "i8")
        # By number of a life: its ends as they were counted, the first position whose count may change, windows.
        self._head, self._tail, self._open, self._totals = (np.zeros(0, np.int64) for _ in range(4))
        self._ends = np.zeros(0, np.int64)  # windows up to and with each life in sorted order

    @property
    def sums(self) -> np.ndarray:
        """(rows,) windows that start in a chunk or an earlier one of its life. Only differences mean something."""
        return self._rows.columns[self]

    @property
    def total(self) -> int:
        """Windows altogether."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def update(self, away: frozenset[int] = frozenset()) -> None:
        """Counts what has changed since the last one."""
        if away != self.away:
            self._exclude(away)
        if self.changed:
            self._make_room()
            self._count([life for n in self.changed if (life := self._rows.lives[n]) is not None])
            self._totals[[n for n in self.changed if self._rows.lives[n] is None]] = 0
            self._ends = np.cumsum(self._totals[self._rows.order])
            self.changed.clear()

    def close(self) -> None:
        """Gives its column back."""
        del self._rows.columns[self]

    def forget(self, number: int) -> None:
        """Counts all chunks of a life anew at the next update."""
        self.changed.add(number)
        self._open[number : number + 1] = 0

    def find(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and steps within their chunks, (len(numbers),) each, where the windows of these numbers start."""
        places = self._ends.searchsorted(numbers, side="right")
        lives = self._rows.order[places]
        low, high = (self._rows.offset[lives] + end[lives] for end in (self._head, self._tail))
        sums = self.sums
        wanted = numbers - (self._ends[places] - self._totals[lives]) + sums[low - 1]
        stretches = zip(wanted.tolist(), low.tolist(), high.tolist(), strict=True)
        rows = np.array([a + sums[a:b].searchsorted(n, side="right") for n, a, b in stretches])
        return rows, wanted - sums[rows - 1]

    def _exclude(self, away: frozenset[int]) -> None:
        for life in self._rows.lives:
            if life is not None and life.shard in away ^ self.away:
                self.forget(life.number)
        self.away = away

    def _make_room(self) -> None:
        count = len(self._rows.lives)
        self._head, self._tail = grown(self._head, count), grown(self._tail, count)
        self._open, self._totals = grown(self._open, count), grown(self._totals, count)

    def _count(self, lives: list[Stretch]) -> None:
        if not lives:
            return
        numbers, head, tail, offset, shard = np.array([(x.number, x.head, x.tail, x.offset, x.shard) for x in lives]).T
        first = np.maximum(self._open[numbers], head)
        self.sums[(offset + head - 1)[first == head]] = 0  # sums begin anew where nothing in front is counted
        rows, lengths = ranges(offset + first, offset + tail), tail - first
        allowed = np.repeat(~np.isin(shard, list(self.away)), lengths)
        chunks = self._rows.table[rows]
        allowed &= (chunks["steps"] > 0) & self._groups()[chunks["group"]]
        counts, growing = count_starts(chunks, lengths, allowed, self.length, self.across)
        sums, ends = running(counts), np.cumsum(lengths)
        before = self.sums[offset + first - 1] - sums[ends - lengths]
        self.sums[rows] = sums[1:] + np.repeat(before, lengths)
        self._open[numbers] = tail - np.diff(running(growing)[np.append(0, ends)])
        self._head[numbers], self._tail[numbers] = head, tail
        self._totals[numbers] = self.sums[offset + tail - 1] - self.sums[offset + head - 1]


def count_starts(
    chunks: np.ndarray, lengths: np.ndarray, allowed: np.ndarray, length: int, across: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Counts the windows of `length` steps that start in each of these (n,) chunks, `lengths` of them from each life.

    Returns the counts, and which of them the next chunk of a life may raise. Windows keep to chunks that are allowed.
    """
    steps, n = chunks["steps"].astype(np.int64), len(chunks)
    ends = np.cumsum(lengths)
    begins = np.zeros(n + 1, bool)  # of runs
    begins[ends - lengths] = True
    parted = chunks["first_step"] == 0
    if across:
        parted[1:] &= np.diff(chunks["seq"]) != 1
    begins[:n] |= parted
    begins[1:n] |= allowed[1:] != allowed[:-1]
    run = np.flatnonzero(begins[:n])
    run_end = np.append(run[1:], n)[: len(run)]
    until = running(steps)
    ahead = np.repeat(until[run_end], run_end - run) - until[:-1]  # steps of the run from the chunk's first one on
    counts = np.clip(ahead - length + 1, 0, steps) * allowed
    newest = np.repeat(np.isin(run_end, ends), run_end - run)
    return counts, newest & allowed & (counts < steps)


def running(counts: np.ndarray) -> np.ndarray:
    """(n + 1,) sums of the first 0, 1, ..., n counts."""
    sums = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=sums[1:])
    return sums
