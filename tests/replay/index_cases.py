"""A replay as lists, to compare an index with: slow, and plain enough to be believed."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from replay.sampling.draws import Drawn
from replay.sampling.index import EpisodeIndex
from replay.schema import ChunkId, Entry, EpisodeKey, Window
from replay.source import Split, split_of


def cut(stream: str, lengths: Iterable[int], chunk_steps: int, label: str = "x", incarnation: int = 1) -> list[Entry]:
    """The chunks of one life whose episodes have these lengths."""
    seq, entries = itertools.count(), []
    for episode, length in enumerate(lengths):
        for first in range(0, length, chunk_steps):
            entries.append(
                Entry(
                    id=ChunkId(stream, incarnation, next(seq)),
                    episode=episode,
                    first_step=first,
                    steps=min(chunk_steps, length - first),
                    source=label,
                    policy_version=episode,
                    checksum=zlib.crc32(f"{stream} {incarnation} {episode} {first}".encode()),
                )
            )
    return entries


def filled(*lives: list[Entry], valid_share: float = 0.0, **options) -> EpisodeIndex:
    """An index of these lives, all of shard 0."""
    index = EpisodeIndex(valid_share, **options)
    index.add_many(0, enumerate(itertools.chain(*lives), 1))
    return index


@dataclass
class Model:
    """Keeps for each shard what it was given, and works everything out from that."""

    valid_share: float = 0.0
    episodes: dict[EpisodeKey, list[tuple[int, int, Entry]]] = field(default_factory=dict)  # shard, cursor, entry
    broken: set[EpisodeKey] = field(default_factory=set)

    def add(self, shard: int, cursor: int, entry: Entry) -> None:
        key = entry.episode_key
        parts = self.episodes.get(key, [])
        if key not in self.broken and entry.first_step == sum(e.steps for _, _, e in parts):
            self.episodes[key] = [*parts, (shard, cursor, entry)]
        else:
            self.broken.add(key)  # a gap: nothing can follow

    def drop_before(self, shard: int, cursor: int) -> None:
        for key, parts in list(self.episodes.items()):
            if parts[0][0] == shard and parts[0][1] < cursor:
                self._end(key, 0)

    def drop(self, entry: Entry) -> None:
        key = entry.episode_key
        self._end(key, [e for _, _, e in self.episodes[key]].index(entry))

    def clear(self, shard: int) -> None:
        for key, parts in list(self.episodes.items()):
            if parts[0][0] == shard:
                self._end(key, 0)

    def _end(self, key: EpisodeKey, count: int) -> None:
        self.broken.add(key)
        self.episodes[key] = self.episodes[key][:count]
        if not count:
            del self.episodes[key]

    def entries(self, key: EpisodeKey) -> list[Entry]:
        return [e for _, _, e in self.episodes[key]]

    def keys(self, split: Split) -> list[EpisodeKey]:
        return sorted(k for k in self.episodes if split_of(k, self.valid_share) == split)

    def runs(
        self, split: Split, across: bool, labels: frozenset[str] | None, away: frozenset[int]
    ) -> Iterator[list[tuple[EpisodeKey, int]]]:
        """Steps that may lie in one window, in order."""
        run: list[tuple[EpisodeKey, int]] = []
        last: Entry | None = None
        for key in self.keys(split):
            entries = self.entries(key)
            if (labels and entries[0].source not in labels) or self.episodes[key][0][0] in away:
                continue
            first = entries[0].id
            if not (across and last and first == replace(last.id, seq=last.id.seq + 1)):
                yield run
                run = []
            run += [(key, step) for step in range(sum(e.steps for e in entries))]
            last = entries[-1]
        yield run

    def windows(self, length: int, context: int, split: Split, **options) -> list[Window]:
        """All there are, in the order of their numbers."""
        options = {"across": False, "labels": None, "away": frozenset()} | options
        return [
            Window(key=key, start=step - context, length=context + length)
            for run in self.runs(split, **options)
            for key, step in run[: max(0, len(run) - length + 1)]
        ]


def numbers(key: tuple[int, ...], total: int, size: int) -> list[int]:
    """What a uniform draw draws."""
    return np.random.default_rng(np.random.SeedSequence(key)).integers(total, size=size).tolist()


def contents(index: EpisodeIndex, drawn: Drawn) -> list[list[tuple[EpisodeKey, int] | None]]:
    """The step that lies at each place of a batch; None where nothing does. Pieces must not overlap."""
    batch: list[list[tuple[EpisodeKey, int] | None]] = [[None] * w.length for w in drawn.windows]
    pieces = zip(*(a.tolist() for a in (drawn.refs, drawn.rows, drawn.at, drawn.begin, drawn.count)), strict=True)
    for ref, row, at, begin, count in pieces:
        entry = index.entry(ref)
        assert 0 <= begin < begin + count <= entry.steps
        for i in range(count):
            assert batch[row][at + i] is None
            batch[row][at + i] = (entry.episode_key, entry.first_step + begin + i)
    return batch
