"""Episodes in memory behind the interface of the replay: for recorded data, tests and experiments."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np

from replay.check import check_array, check_names, check_spec
from replay.sampling.draws import Drawn
from replay.sampling.index import EpisodeIndex
from replay.sampling.priorities import check_priorities
from replay.schema import Batch, ChunkId, Entry, Episode, EpisodeKey, EpisodeSpec, Window
from replay.source import Split


class MemorySource:
    """A fixed list of episodes. Draws exactly what RedisSource draws from the same episodes."""

    def __init__(self, spec: EpisodeSpec, episodes: Iterable[Episode], valid_share: float = 0.1) -> None:
        """Raises BadInput for an episode that does not fit the spec."""
        check_spec(spec)
        self.spec = spec
        self._episodes = {e.key: e for e in episodes}
        self._index, self._lock = EpisodeIndex(valid_share), threading.Lock()
        for number, key in enumerate(sorted(self._episodes), 1):
            _check(spec, self._episodes[key])
            self._index.add(0, number, _entry(self._episodes[key]))

    def refresh(self) -> int:
        """The number of steps; there is never anything new."""
        return self._index.steps

    def episodes(self, split: Split) -> Sequence[EpisodeKey]:
        """Keys, sorted."""
        with self._lock:
            return self._index.keys(split)

    def episode(self, key: EpisodeKey, fields: Sequence[str] | None = None) -> Episode:
        """One episode; only `fields` if given. Raises KeyError."""
        whole = self._episodes[key]
        arrays = whole.arrays if fields is None else {name: whole.arrays[name] for name in fields}
        return Episode(key=key, source=whole.source, policy_version=whole.policy_version, arrays=arrays)

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
        """Arrays (batch_size, context + length, *shape); see `Source`. Raises LookupError if none is long enough."""
        with self._lock:
            drawn = self._index.draw(key, batch_size, length, split, context=context, across=across)
            keys = [self._index.entry(ref).episode_key for ref in drawn.refs.tolist()]
        return self._gather(drawn, keys, fields)

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """Draws are uniform: only checked."""
        check_priorities(windows, priorities)

    def close(self) -> None:
        """It holds nothing but memory."""

    def _gather(self, drawn: Drawn, keys: Sequence[EpisodeKey], fields: Sequence[str] | None) -> Batch:
        wanted = [self.spec[name] for name in fields] if fields is not None else self.spec.fields
        shape = (len(drawn.windows), drawn.windows[0].length)
        batch = {f.name: np.zeros((*shape, *f.shape), f.dtype) for f in wanted}
        places = zip(*(a.tolist() for a in (drawn.rows, drawn.at, drawn.begin, drawn.count)), strict=True)
        for key, (row, at, begin, count) in zip(keys, places, strict=True):
            for name, out in batch.items():
                out[row, at : at + count] = self._episodes[key].arrays[name][begin : begin + count]
        return Batch(arrays=batch, windows=drawn.windows, weights=drawn.weights, mask=drawn.mask)


def _check(spec: EpisodeSpec, episode: Episode) -> None:
    check_names(spec, episode.arrays, f"in episode {episode.key}")
    steps = len(episode.arrays["reward"])
    for field in spec.fields:
        check_array(field, episode.arrays[field.name], (steps, *field.shape), f"in episode {episode.key}")


def _entry(episode: Episode) -> Entry:
    """The episode as one chunk. Its number is that of the episode: episodes follow each other if their numbers do."""
    return Entry(
        id=ChunkId(episode.key.stream, episode.key.incarnation, episode.key.episode),
        episode=episode.key.episode,
        first_step=0,
        steps=len(episode.arrays["reward"]),
        source=episode.source,
        policy_version=episode.policy_version,
        checksum=0,
    )
