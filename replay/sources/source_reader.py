"""The episodes of a replay, or of recorded data, one after the other and with all that is known of them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from replay.dataset.episodes import Actor, NamedEpisode, Unreadable, is_complete
from replay.schema import EpisodeKey
from replay.source import Source
from replay.sources.chunk_source import ChunkSource
from replay.sources.dataset_source import DatasetSource


class SourceReader:
    """Implements `Reader` on any source. The episodes of recorded data keep their names, others are called by their
    keys."""

    def __init__(self, source: Source, origin: Mapping[str, Any], *, partial: bool = False) -> None:
        """With `partial`, episodes are read that have not reached their end: of runners that died, or that still act.
        Such an episode may have more records another time."""
        self.spec, self.origin = source.spec, dict(origin)
        self.unfinished = self.evicted = 0  # episodes that `read` has left out
        self._source, self._partial = source, partial
        self._keys = {self._labels(k)[0]: k for k in sorted([*source.episodes("train"), *source.episodes("valid")])}
        self.episodes = len(self._keys)

    def read(self, skip: Container[str] = ()) -> Iterator[NamedEpisode | Unreadable]:
        """Every episode whose name is not in `skip`, life by life in their order."""
        self.unfinished = self.evicted = 0
        for name in self._keys:
            if name in skip:
                continue
            try:
                episode = self.named(name)
            except KeyError:
                self.evicted += 1
                continue
            if self._partial or is_complete(episode.arrays):
                yield episode
            else:
                self.unfinished += 1

    def named(self, name: str) -> NamedEpisode:
        """One episode. Raises KeyError if there is none, or no longer."""
        key = self._keys[name]
        actors = self._actors(key)
        episode = self._source.episode(key)
        if actors is None:
            actors = [Actor(0, episode.source, episode.policy_version)]
        known = tuple(a for a in actors if a.first_step < len(episode.arrays["reward"]))
        return NamedEpisode(name=name, arrays=episode.arrays, actors=known, key=key, task=self._labels(key)[1])

    def _actors(self, key: EpisodeKey) -> list[Actor] | None:
        if not isinstance(self._source, ChunkSource):
            return None
        actors: list[Actor] = []
        for entry in self._source.entries(key):
            if not actors or (actors[-1].source, actors[-1].policy_version) != (entry.source, entry.policy_version):
                actors.append(Actor(entry.first_step, entry.source, entry.policy_version))
        return actors

    def _labels(self, key: EpisodeKey) -> tuple[str, str]:
        """Name and task."""
        return self._source.labels(key) if isinstance(self._source, DatasetSource) else (str(key), "")
