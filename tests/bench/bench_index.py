"""What a draw costs as the index grows from 1e4 to 1e6 chunks, and what a chunk costs in it.

The peer is an index as it is usually written: an array with the weight of every chunk, and its running sum, made anew
whenever something has changed. It finds chunks alone; ours makes windows and pieces of them too.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import pytest
from timing import arguments, ratio, table, turns

from replay.config import SamplingConfig
from replay.sampling.index import EpisodeIndex
from replay.schema import ChunkId, Entry, Window

B, T, CHUNK_STEPS, EPISODE_CHUNKS, LIVES = 16, 64, 64, 16, 64
SIZES = (10_000, 100_000, 1_000_000)
KINDS = ("uniform", "prioritised")


class Naive:
    """The peer."""

    def __init__(self, size: int) -> None:
        self._weights, self._size = np.ones(size + size // 2), size
        self._rng = np.random.default_rng(0)
        self._sums = np.cumsum(self._weights[:size])

    def arrive(self) -> None:
        self._weights[self._size % len(self._weights)] = 1
        self._size = min(self._size + 1, len(self._weights))
        self._sums = np.cumsum(self._weights[: self._size])

    def draw(self) -> None:
        self._drawn = self._sums.searchsorted(self._rng.random(B) * self._sums[-1], side="right")

    def feedback(self) -> None:
        self._weights[self._drawn] = self._rng.random(B)
        self._sums = np.cumsum(self._weights[: self._size])


def entries() -> Iterator[tuple[int, Entry]]:
    """Chunks of 64 streams in turn, episodes of 16 chunks, with their cursors, for ever."""
    cursor = 0
    while True:
        seq, life = divmod(cursor, LIVES)
        cursor += 1
        yield (
            cursor,
            Entry(
                id=ChunkId(f"runner-{life}", 1, seq),
                episode=seq // EPISODE_CHUNKS,
                first_step=seq % EPISODE_CHUNKS * CHUNK_STEPS,
                steps=CHUNK_STEPS,
                source="policy",
                policy_version=seq,
                checksum=cursor,
            ),
        )


class Ours:
    """An index of this many chunks; as new ones arrive the oldest go."""

    def __init__(self, size: int, kind: str) -> None:
        self.index, self._entries, self._key = EpisodeIndex(0.1, SamplingConfig(kind=kind)), entries(), 0
        for _ in range(size):
            self.index.add(0, *next(self._entries))
        self._size = size
        self.draw()

    def arrive(self) -> None:
        cursor, entry = next(self._entries)
        self.index.add(0, cursor, entry)
        self.index.drop_before(0, cursor - self._size)

    def draw(self) -> tuple[Window, ...]:
        self._key += 1
        self.windows = self.index.draw((self._key, 0), B, T).windows
        return self.windows

    def feedback(self) -> None:
        self.index.feedback(self.windows, np.full(B, 1 + self._key % 3))


def works(size: int) -> dict[str, Callable[[], object]]:
    """What is timed, at one size."""
    naive, uniform, prioritised = Naive(size), Ours(size, "uniform"), Ours(size, "prioritised")
    return {
        "uniform, draw": uniform.draw,
        "prioritised, draw": prioritised.draw,
        "prioritised, draw and feedback": lambda: (prioritised.draw(), prioritised.feedback()),
        "uniform, a chunk arrives, draw": lambda: (uniform.arrive(), uniform.draw()),
        "prioritised, a chunk arrives, draw": lambda: (prioritised.arrive(), prioritised.draw()),
        "naive, a chunk arrives, draw": lambda: (naive.arrive(), naive.draw()),
        "naive, draw and feedback": lambda: (naive.draw(), naive.feedback()),
    }


def flat(repetitions: int) -> list[list[object]]:
    """Rows of the first table: the sizes turn by turn, one kind of work after the other."""
    by_size = {size: works(size) for size in SIZES}
    rows: list[list[object]] = []
    for name in by_size[SIZES[0]]:
        seconds = turns({str(size): by_size[size][name] for size in SIZES}, repetitions)
        times = [seconds[str(size)] for size in SIZES]
        rows.append([name, *(f"{1e6 * median(s):.0f}" for s in times), f"{ratio(times[-1], times[0]):.2f}x"])
    return rows


def memory(size: int, kind: str) -> float:
    """Bytes of an index that is drawn from, per chunk."""
    tracemalloc.start()
    ours = Ours(size, kind)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del ours
    return used / size


def upkeep(size: int, kind: str) -> tuple[float, float]:
    """Seconds for a chunk: read at the start, and arriving in an index of `size` that evicts one for it, with a draw
    after every 64."""
    news = [next(stream) for stream in [entries()] for _ in range(100_000)]
    ours = Ours(size, kind)

    def arrivals() -> None:
        for _ in range(LIVES):
            ours.arrive()
        ours.draw()

    seconds = turns({"read": lambda: EpisodeIndex().add_many(0, news), "arrive": arrivals}, 9)
    return median(seconds["read"]) / len(news), median(seconds["arrive"]) / LIVES


def report(repetitions: int) -> list[list[object]]:
    rows = flat(repetitions)
    table(["us, by chunks", *(f"{size:,}" for size in SIZES), "the last over the first"], rows)
    print()
    costs: list[list[object]] = []
    for kind in KINDS:
        read, arrive = upkeep(SIZES[-1], kind)
        bytes_ = [f"{memory(size, kind):.0f}" for size in SIZES]
        costs.append([kind, *bytes_, f"{1e-3 / read:.0f}k/s", f"{1e6 * arrive:.1f}"])
    table(["bytes a chunk, by chunks", *(f"{size:,}" for size in SIZES), "read at start", "us a new one"], costs)
    return rows


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_index() -> None:
    for name, *_, growth in report(repetitions=200):
        assert str(name).startswith("naive") or float(str(growth).rstrip("x")) < 2


if __name__ == "__main__":
    report(arguments(__doc__).repetitions or 300)
