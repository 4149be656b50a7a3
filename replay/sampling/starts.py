"""How many windows start in each chunk, as running sums along each life: what a draw looks its numbers up in.

A window of L steps may start at a step if L - 1 more follow it in its run: its episode, or with `across` the episodes
of a life that follow each other without a chunk missing. So the count of a chunk depends on what comes behind it alone.
New chunks change the counts of the last L - 1 steps before them, and those that leave in front change none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from replay.sampling.rows import Rows, Stretch, grown, ranges

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
        # By number of a life: its ends as they were counted, the first position whose count may still change, and the
        # first one that is drawn.
        self._head, self._tail, self._open, self._first = (np.zeros(0, np.int64) for _ in range(4))
        self._totals = self._ends = np.zeros(0, np.int64)  # windows of the lives in sorted order, and up to each

    @property
    def sums(self) -> np.ndarray:
        """(rows,) windows that start in a chunk or an earlier one of its life. Only differences mean something."""
        return self._rows.columns[self]

    @property
    def total(self) -> int:
        """Windows altogether."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def update(self, away: frozenset[int]) -> bool:
        """Counts what has changed since the last time; False if nothing has. Shards that are `away` are not drawn."""
        changed = bool(self.changed)
        if changed:
            self._make_room()
            self._count([life for n in self.changed if (life := self._rows.lives[n]) is not None])
            self.changed.clear()
            self._first = self._head
        if changed or away != self.away:
            self.away = away
            self._sum_up()
        return changed

    def begin_at(self, floors: np.ndarray) -> None:
        """Until the next change, draws no chunk in front of these positions (lives,)."""
        count = len(floors)
        self._first = np.clip(floors, self._head[:count], self._tail[:count])
        self._sum_up()

    def close(self) -> None:
        """Gives its column back."""
        del self._rows.columns[self]

    def forget(self, number: int) -> None:
        """Counts all chunks of a life anew, once it is among the changed."""
        self._open[number : number + 1] = 0

    def lose(self, begin: int, end: int) -> None:
        """The chunks of these rows are about to go."""

    def reprice(self, rows: np.ndarray) -> None:
        """The priorities of these chunks have changed; nothing else has since the last update."""

    def is_away(self, lives: np.ndarray) -> np.ndarray:
        """(len(lives),) bool: whether the shards of these lives are not drawn."""
        return np.isin(self._rows.shard[lives], list(self.away))

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) windows that start in these chunks."""
        return self.sums[rows] - self.sums[rows - 1]

    def draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Windows, each one equally likely: rows, steps within them, and no weights."""
        return *self.find(rng.integers(self.total, size=size)), None

    def find(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and steps within their chunks, (len(numbers),) each, where the windows of these numbers start."""
        places = self._ends.searchsorted(numbers, side="right")
        lives = self._rows.order[places]
        low, high = (self._rows.offset[lives] + end[lives] for end in (self._first, self._tail))
        sums = self.sums
        wanted = numbers - (self._ends[places] - self._totals[places]) + sums[low - 1]
        stretches = zip(wanted.tolist(), low.tolist(), high.tolist(), strict=True)
        rows = np.array([a + sums[a:b].searchsorted(n, side="right") for n, a, b in stretches], np.int64)
        return rows, wanted - sums[rows - 1]

    def _make_room(self) -> None:
        count = len(self._rows.lives)
        self._head, self._tail, self._open = (grown(a, count) for a in (self._head, self._tail, self._open))

    def _sum_up(self) -> None:
        order = self._rows.order
        low, high = (self._rows.offset[order] + end[order] - 1 for end in (self._first, self._tail))
        self._totals = self.sums[high] - self.sums[low]
        if self.away:
            self._totals[self.is_away(order)] = 0
        self._ends = np.cumsum(self._totals)

    def _count(self, lives: list[Stretch]) -> None:
        if not lives:
            return
        numbers, head, tail, offset = np.array([(x.number, x.head, x.tail, x.offset) for x in lives]).T
        first = np.maximum(self._open[numbers], head)
        rows, lengths = ranges(offset + first, offset + tail), tail - first
        chunks = self._rows.table[rows]
        allowed = (chunks["steps"] > 0) & self._groups()[chunks["group"]]
        counts, growing = count_starts(chunks, lengths, allowed, self.length, self.across)
        sums, ends = running(counts), np.cumsum(lengths)
        before = self.sums[offset + first - 1] - sums[ends - lengths]
        self.sums[rows] = sums[1:] + np.repeat(before, lengths)
        self._open[numbers] = tail - np.diff(running(growing)[np.append(0, ends)])
        self._head[numbers], self._tail[numbers] = head, tail
        self._counted(rows, counts)

    def _counted(self, rows: np.ndarray, counts: np.ndarray) -> None:
        """Called when the counts of these rows may have changed."""


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
