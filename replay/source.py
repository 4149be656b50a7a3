"""Where a learner's experience comes from: the live replay, or recorded data. One interface for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from replay.schema import Batch, Episode, EpisodeKey, EpisodeSpec

Split = Literal["train", "valid"]


class Source(Protocol):
    """Read side of stored experience. Every draw is a function of `key` and the stored episodes alone, so a learner
    that resumes at step N draws exactly what it would have drawn without the interruption."""

    spec: EpisodeSpec

    def refresh(self) -> int:
        """Look for new experience; returns the number of steps stored now."""
        ...

    def episodes(self, split: Split) -> Sequence[EpisodeKey]:
        """Keys in a fixed (sorted) order. The split is a hash of the key: an episode never changes sides."""
        ...

    def episode(self, key: EpisodeKey, fields: Sequence[str] | None = None) -> Episode:
        """One episode; only `fields` if given. Raises KeyError if it was evicted."""
        ...

    def batch(
        self,
        key: tuple[int, ...],
        batch_size: int,
        length: int,
        fields: Sequence[str] | None = None,
        split: Split = "train",
    ) -> Batch:
        """`batch_size` windows of `length` steps, uniform over the windows that fit inside one episode.

        `key` seeds the draw (numpy SeedSequence). Raises LookupError if no episode is long enough.
        """
        ...
