"""Episodes in memory behind the interface of the replay: for recorded data, tests and experiments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from replay.check import check_array, check_names, check_spec
from replay.schema import Batch, Episode, EpisodeKey, EpisodeSpec, Window
from replay.source import Split
from replay.windows import WindowTable, gather, split_of


class MemorySource:
    """A fixed list of episodes. Draws exactly what RedisSource draws from the same episodes."""

    def __init__(self, spec: EpisodeSpec, episodes: Iterable[Episode], valid_share: float = 0.1) -> None:
        """Raises BadInput for an episode that does not fit the spec."""
        check_spec(spec)
        self.spec = spec
        self._episodes = {e.key: e for e in episodes}
        for key, episode in self._episodes.items():
            check_names(spec, episode.arrays, f"in episode {key}")
            steps = len(episode.arrays["reward"])
            for field in spec.fields:
                check_array(field, episode.arrays[field.name], (steps, *field.shape), f"in episode {key}")
        self._tables: dict[Split, WindowTable] = {}
        for split in ("train", "valid"):
            keys = [k for k in self._episodes if split_of(k, valid_share) == split]
            self._tables[split] = WindowTable({k: len(self._episodes[k].arrays["reward"]) for k in keys})

    def refresh(self) -> int:
        """The number of steps; there is never anything new."""
        return sum(len(e.arrays["reward"]) for e in self._episodes.values())

    def episodes(self, split: Split) -> Sequence[EpisodeKey]:
        """Keys, sorted."""
        return self._tables[split].keys

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
        """Arrays (batch_size, length, *shape); see `Source`. Raises LookupError if no episode is long enough."""
        windows = self._tables[split].draw(key, batch_size, length)
        return gather(self.spec, windows, lambda w: [(0, self._episodes[w.key].arrays)], fields)

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """Ignored: draws are uniform."""
