"""What comes of playing: figures of a collection, episodes of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectStats:
    """What was collected. What is said of each episode is in the order in which they were asked for."""

    steps: int  # records that the replay acknowledged
    episodes: int
    returns: tuple[float, ...]
    seconds: float
    retries: int = 0  # pieces of work that had to be given out again
    lengths: tuple[int, ...] = ()  # decisions
    successes: tuple[bool | None, ...] = ()  # None: the suite does not say
    env_steps: int = 0  # that environments made, those of episodes that failed included
    failures: Mapping[str, int] = field(default_factory=dict)  # of environments: died, timeout, raised, memory

    @property
    def steps_per_s(self) -> float:
        return self.steps / max(self.seconds, 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """One episode of an evaluation."""

    seed: int
    policy: str
    mode: str
    total_reward: float
    length: int  # decisions
    success: bool | None = None  # whether the task was solved; None: the suite does not say
    milestones: Mapping[str, bool] = field(default_factory=dict)  # which were reached, where the suite has any
    frames: np.ndarray | None = None  # (length + 1, H, W, 3) uint8
