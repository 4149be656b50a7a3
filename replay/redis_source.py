"""The learner's side: draws windows from what Redis stores, fetches and decodes the chunks that hold them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from replay.cache import Arrays, ChunkCache
from replay.codec import CorruptChunk, decode
from replay.config import ReplayConfig
from replay.old_index import EpisodeIndex
from replay.router import Router
from replay.schema import Batch, ChunkId, Entry, Episode, EpisodeKey, EpisodeSpec, Window
from replay.shard import Shard
from replay.source import Split
from replay.windows import WindowTable, gather, split_of

_FETCH = 64  # chunks in one request: bounds the reply to some tens of megabytes


class _Evicted(Exception):
    """Chunks that the index named are gone; the index knows by now."""


class RedisSource:
    """Implements `Source` on a run's shards. Its methods may be called from several threads.

    What it offers changes in `refresh` alone, but for one thing: chunks found evicted leave the index at once, and the
    draw is repeated with the same key over what is left.
    """

    def __init__(self, config: ReplayConfig, run: str, spec: EpisodeSpec, timeout_s: float = 60) -> None:
        """Connects and reads the index. No command waits longer than `timeout_s` or `config.outage_s` for Redis.

        Raises TryAgain if it is away, BadInput if the run has another spec.
        """
        self.spec = spec
        self._valid_share = config.valid_share
        self._router = Router(config, run, outage_s=min(timeout_s, config.outage_s))
        self._router.register(spec)
        self._indices: dict[Shard, EpisodeIndex] = {shard: EpisodeIndex() for shard in self._router.shards}
        self._cache = ChunkCache(config.arena_bytes)
        self._tables: dict[Split, WindowTable] = {}
        self._tables_version = -1
        self._lock = threading.RLock()
        self.refresh()

    def refresh(self) -> int:
        """Reads what is new in the index and forgets what was evicted; returns the number of steps on offer."""
        with self._lock:
            for shard, index in self._indices.items():
                for cursor, entry in shard.tail(index.cursor):
                    index.add(cursor, entry)
            self._forget_evicted()
            return sum(sum(index.lengths().values()) for index in self._indices.values())

    def episodes(self, split: Split) -> Sequence[EpisodeKey]:
        """Keys, sorted."""
        with self._lock:
            return self._table(split).keys

    def episode(self, key: EpisodeKey, fields: Sequence[str] | None = None) -> Episode:
        """One episode, or the part of it that is stored so far; only `fields` if given. Raises KeyError."""
        names = [f.name for f in self.spec.fields] if fields is None else fields
        with self._lock:
            while True:
                parts = self._index(key).parts(key)
                try:
                    chunks = self._chunks(parts)
                except _Evicted:
                    continue
                arrays = {name: np.concatenate([chunks[e.id][name] for e in parts]) for name in names}
                return Episode(key=key, source=parts[0].source, policy_version=parts[0].policy_version, arrays=arrays)

    def batch(
        self,
        key: tuple[int, ...],
        batch_size: int,
        length: int,
        fields: Sequence[str] | None = None,
        split: Split = "train",
        *,
        context: int = 0,
        across: bool = False,
    ) -> Batch:
        """Arrays (batch_size, length, *shape); see `Source`. Raises LookupError if no episode is long enough."""
        with self._lock:
            while True:  # each turn has fewer chunks to offer, so it ends
                windows = self._table(split).draw(key, batch_size, length)
                covers = {w: self._index(w.key).covering(w) for w in windows}
                try:
                    chunks = self._chunks(chain.from_iterable(covers.values()))
                except _Evicted:
                    continue

                pieces = {w: [(e.first_step, chunks[e.id]) for e in entries] for w, entries in covers.items()}
                return gather(self.spec, windows, pieces.__getitem__, fields)

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """Ignored: draws are uniform."""

    def close(self) -> None:
        """Disconnects."""
        self._router.close()

    def _table(self, split: Split) -> WindowTable:
        version = sum(index.version for index in self._indices.values())
        if version != self._tables_version:
            lengths = {k: n for index in self._indices.values() for k, n in index.lengths().items()}
            sides: dict[Split, dict[EpisodeKey, int]] = {"train": {}, "valid": {}}
            for key, steps in lengths.items():
                sides[split_of(key, self._valid_share)][key] = steps
            self._tables = {side: WindowTable(lengths) for side, lengths in sides.items()}
            self._tables_version = version
        return self._tables[split]

    def _index(self, key: EpisodeKey) -> EpisodeIndex:
        for index in self._indices.values():
            if key in index:
                return index
        raise KeyError(f"episode {key} is not in the replay")

    def _chunks(self, entries: Iterable[Entry]) -> dict[ChunkId, Arrays]:
        """Decoded chunks from the cache or from Redis. Raises _Evicted if any is gone."""
        chunks: dict[ChunkId, Arrays] = {}
        missing: dict[Shard, list[Entry]] = {}
        for entry in dict.fromkeys(entries):
            cached = self._cache.get(entry.id)
            if cached is not None:
                chunks[entry.id] = cached
            else:
                shard = next(s for s, index in self._indices.items() if entry.episode_key in index)
                missing.setdefault(shard, []).append(entry)
        for shard, wanted in missing.items():
            for i in range(0, len(wanted), _FETCH):
                chunks |= self._fetch(shard, wanted[i : i + _FETCH])
        return chunks

    def _fetch(self, shard: Shard, entries: list[Entry]) -> dict[ChunkId, Arrays]:
        bodies = shard.fetch([e.id for e in entries])
        chunks = {}
        for entry, body in zip(entries, bodies, strict=True):
            if body is None:
                self._indices[shard].drop(entry)
                continue
            chunk = decode(body, self.spec)
            if (chunk.id, chunk.first_step, chunk.steps) != (entry.id, entry.first_step, entry.steps):
                raise CorruptChunk(f"The body of chunk {entry.id} at {shard.name} is that of {chunk.id}.")
            chunks[entry.id] = chunk.arrays
            self._cache.put(entry.id, chunk.arrays)
        if len(chunks) < len(entries):
            self._forget_evicted()
            raise _Evicted
        return chunks

    def _forget_evicted(self) -> None:
        for shard, index in self._indices.items():
            index.drop_before(shard.state().oldest)
