"""Draws from chunks, wherever their bodies lie: an index says which, the arena holds most, the rest is loaded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from replay.arena.arena import Arena
from replay.arena.buffers import BufferPool
from replay.arena.loader import Arrays, Loader
from replay.codec import CorruptChunk
from replay.errors import TryAgain
from replay.sampling.draws import Drawn
from replay.sampling.index import EpisodeIndex
from replay.schema import Batch, Entry, Episode, EpisodeKey, EpisodeSpec, FieldSpec, Window
from replay.source import Source, Split

_log = logging.getLogger(__name__)

_KEYS = 2**16


class Away(Exception):
    """Shards that do not answer for now."""

    def __init__(self, shards: Collection[int], reason: TryAgain) -> None:
        super().__init__(shards, reason)
        self.shards, self.reason = frozenset(shards), reason


class _Gone(Exception):
    """Chunks that the index named cannot be had; the index knows by now."""


class ChunkSource:
    """Implements `Source`. Its methods may be called from several threads.

    What it offers changes in `refresh` alone, but for one thing: chunks found evicted or damaged leave the index at
    once, and the draw is repeated with the same key over what is left.
    """

    def __init__(
        self,
        spec: EpisodeSpec,
        index: EpisodeIndex,
        arena: Arena,
        run: str | None = None,
        refresh_every_s: float = 0.0,
    ) -> None:
        """Bodies must be of `run`, unless it is None. With `refresh_every_s`, `batch` refreshes by itself that often;
        then draws depend on when they are made."""
        self.spec = spec
        self.rejected = 0  # chunks with a damaged body
        self._index, self._arena, self._buffers = index, arena, BufferPool()
        self._keys: dict[int, bytes] = {}  # by ref, of chunks that were drawn lately
        self._loader = Loader(spec, run, self._bodies)
        self._lock = threading.RLock()
        self._refresh_every_s, self._refreshed_s = refresh_every_s, 0.0

    def _bodies(self, refs: Sequence[int]) -> list[bytes | None]:
        """Bodies of chunks, None for those evicted. Called from another thread, while the index does not change.

        Raises Away if a shard does not answer, TryAgain if one has been away for too long.
        """
        raise NotImplementedError

    def refresh(self) -> int:
        """Looks for new experience; returns the number of steps on offer."""
        with self._lock:
            self._refresh()
            self._refreshed_s = time.monotonic()
            return self._index.steps

    def episodes(self, split: Split) -> Sequence[EpisodeKey]:
        """Keys, sorted."""
        with self._lock:
            return self._index.keys(split)

    def entries(self, key: EpisodeKey) -> list[Entry]:
        """The chunks of an episode, in order: who acted in which steps. Raises KeyError."""
        with self._lock:
            return [self._index.entry(ref) for ref in self._index.refs(key)]

    def episode(self, key: EpisodeKey, fields: Sequence[str] | None = None) -> Episode:
        """One episode, or the part of it that is stored so far; only `fields` if given. Raises KeyError."""
        with self._lock:
            while True:
                entries = {ref: self._index.entry(ref) for ref in self._index.refs(key)}
                try:
                    arrays = self._read(entries, fields)
                except _Gone:
                    continue
                except Away as error:
                    self._wait(error)
                    continue
                first = next(iter(entries.values()))
                return Episode(key=key, source=first.source, policy_version=first.policy_version, arrays=arrays)

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
        """See `Source`."""
        wanted, draw = (key, batch_size, length, split), self._index.draw
        return self._drawn(fields, lambda away: draw(*wanted, context=context, across=across, away=away))

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """See `Source`. Ignored unless the index prioritises."""
        with self._lock:
            self._index.feedback(windows, priorities)

    def only(self, labels: Collection[str]) -> Source:
        """The episodes that began with one of these sources, such as "expert". Closing it closes this source."""
        return _Only(self, frozenset(labels))

    def close(self) -> None:
        """The arena goes with the last process that uses it."""
        self._loader.close()
        self._arena.close()

    def _refresh(self) -> None:
        """Brings the index up to date."""

    def _drawn(self, fields: Sequence[str] | None, draw: Callable[[frozenset[int]], Drawn]) -> Batch:
        """A batch as `draw` draws it from all shards but those that are away."""
        with self._lock:
            if self._refresh_every_s and time.monotonic() - self._refreshed_s > self._refresh_every_s:
                self.refresh()
            away: Away | None = None
            while True:  # each turn has fewer chunks to offer, or fewer shards, or waits with a deadline
                try:
                    shards = away.shards if away else frozenset()
                    return self._batch(draw(shards), fields)
                except _Gone:
                    continue
                except Away as error:
                    away = Away(error.shards | shards, error.reason)
                except LookupError:
                    if away is None:
                        raise
                    self._wait(away)
                    away = None

    def _wait(self, away: Away) -> None:
        """Waits a moment for shards that nobody can do without. Raises TryAgain if they have been away for too long."""
        raise away.reason

    def _forget(self, refs: Sequence[int]) -> None:
        """These chunks were evicted."""
        for ref in refs:
            self._index.drop(ref)

    def _batch(self, drawn: Drawn, fields: Sequence[str] | None) -> Batch:
        shape = (len(drawn.windows), drawn.windows[0].length)
        out = {f.name: self._buffers.take((*shape, *f.shape), f.dtype) for f in self._fields(fields)}
        flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in out.items()}
        self._fill(drawn.refs, drawn.rows * shape[1] + drawn.at, drawn.begin, drawn.count, flat)
        if drawn.mask is not None:
            for array in out.values():
                array[~drawn.mask] = 0
        return Batch(arrays=out, windows=drawn.windows, weights=drawn.weights, mask=drawn.mask)

    def _read(self, entries: Mapping[int, Entry], fields: Sequence[str] | None) -> Arrays:
        """These chunks, one behind the other."""
        count = np.array([entry.steps for entry in entries.values()])
        out = {f.name: np.empty((count.sum(), *f.shape), f.dtype) for f in self._fields(fields)}
        self._fill(np.array(list(entries)), np.cumsum(count) - count, np.zeros_like(count), count, out)
        return out

    def _fields(self, names: Sequence[str] | None) -> list[FieldSpec]:
        return list(self.spec.fields) if names is None else [self.spec[name] for name in names]

    def _fill(self, refs: np.ndarray, to: np.ndarray, begin: np.ndarray, count: np.ndarray, out: Arrays) -> None:
        """Copies the steps [begin, begin + count) of chunks to rows `to` and on. Raises _Gone, Away or TryAgain."""
        keys = self._keys_of(refs)
        found = self._arena.gather(keys, to, begin, count, out)
        if found.all():
            return
        missing = np.flatnonzero(~found)
        places: dict[int, list[int]] = {}
        for piece, ref in zip(missing.tolist(), refs[missing].tolist(), strict=True):
            places.setdefault(ref, []).append(piece)

        def use(ref: int, arrays: Arrays) -> None:
            for p in places[ref]:
                for name, array in out.items():
                    array[to[p] : to[p] + count[p]] = arrays[name][begin[p] : begin[p] + count[p]]
            self._arena.put(keys[places[ref][0]], arrays)

        if failed := self._loader.load({ref: self._index.entry(ref) for ref in places}, use):
            self._leave_out(failed)
            raise _Gone

    def _keys_of(self, refs: np.ndarray) -> list[bytes]:
        """What the arena calls these chunks."""
        names = refs.tolist()
        keys = [self._keys.get(ref) for ref in names]
        if None not in keys:
            return keys  # type: ignore[return-value]
        computed = self._index.keys128(refs).view("V16").reshape(-1).tolist()
        if len(self._keys) > _KEYS:
            self._keys.clear()
        self._keys.update(zip(names, computed, strict=True))
        return computed

    def _leave_out(self, failed: Mapping[int, CorruptChunk | None]) -> None:
        damaged = {ref: reason for ref, reason in failed.items() if reason is not None}
        for ref, reason in damaged.items():  # before any goes: with it goes the rest of its episode
            _log.warning("Damaged chunk %s is left out: %s", self._index.entry(ref).id, reason.message)
        self.rejected += len(damaged)
        if len(damaged) < len(failed):
            self._forget([ref for ref in failed if ref not in damaged])
        for ref in damaged:
            self._index.drop(ref)


class _Only:
    """A view of a source. Implements `Source`."""

    def __init__(self, source: ChunkSource, labels: frozenset[str]) -> None:
        self.spec = source.spec
        self._source, self._labels = source, labels

    def refresh(self) -> int:
        """Returns the number of steps on offer, of all labels."""
        return self._source.refresh()

    def episodes(self, split: Split) -> Sequence[EpisodeKey]:
        """Keys, sorted."""
        source = self._source
        with source._lock:
            return [key for key in source.episodes(split) if source.entries(key)[0].source in self._labels]

    def episode(self, key: EpisodeKey, fields: Sequence[str] | None = None) -> Episode:
        """One episode, whatever its label. Raises KeyError."""
        return self._source.episode(key, fields)

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
        """See `Source`."""
        source, wanted = self._source, (key, batch_size, length, split)
        draw = source._index.draw
        return source._drawn(
            fields, lambda away: draw(*wanted, context=context, across=across, labels=self._labels, away=away)
        )

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """See `Source`."""
        self._source.feedback(windows, priorities)

    def close(self) -> None:
        """Closes the source that this is a view of."""
        self._source.close()
