"""Where a learner's experience comes from: the live replay, or recorded data. One interface for both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from replay.schema import Batch, Episode, EpisodeKey, EpisodeSpec, Window

Split = Literal["train", "valid"]


def split_of(key: EpisodeKey, valid_share: float) -> Split:
    """The side of an episode, for good: a function of its name alone, the same in every process."""
    digest = hashlib.blake2b(str(key).encode(), digest_size=8).digest()
    return "valid" if int.from_bytes(digest, "big") < valid_share * 2**64 else "train"


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
        *,
        context: int = 0,
        across: bool = False,
    ) -> Batch:
        """`batch_size` windows of `context + length` steps; arrays (batch_size, context + length, *shape).

        Every place where `length` steps fit inside one episode is equally likely, unless the source prioritises. With
        `across`, windows may run from one episode into the next of the same life of a stream (is_first tells).
        `context` steps in front of a window come along where its episode has them; `Batch.mask` tells where it has not.

        `key` seeds the draw (numpy SeedSequence). Raises LookupError if no episode is long enough.
        """
        ...

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """Says how much a learner wants to see windows again: `priorities` (len(windows),), finite and >= 0, such as
        |td error| or loss. A hint: sources that do not prioritise ignore it. Raises BadInput for other numbers."""
        ...

    def close(self) -> None:
        """Lets go of what it holds: connections, threads, its share of the arena. Harmless when repeated."""
        ...
