"""The noise of exploring policies, less with every episode."""

from __future__ import annotations

from dataclasses import dataclass

from replay.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationConfig:
    """The deviation of normal noise on actions in [-1, 1]: linear from `first` to `last` over so many episodes."""

    first: float = 1.0
    last: float = 0.1
    episodes: int = 50  # until the noise is least: 50 on easy tasks, 150 on medium ones, 500 on hard ones

    def __post_init__(self) -> None:
        if min(self.first, self.last) < 0 or self.episodes < 1:
            raise BadInput(f"{self} is no schedule.", "Give exploration.episodes from 1, the rest from 0.")

    def std(self, explored: int) -> float:
        """After so many episodes of exploring."""
        share = min(explored / max(self.episodes - 1, 1), 1.0)
        return self.first + share * (self.last - self.first)
