"""The contract of anything that acts: in a runner, in evaluation, in the player."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Mode = Literal["sample", "mode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What B environments show now. A row with `is_first` starts an episode: the agent forgets what came before."""

    fields: Mapping[str, np.ndarray]  # (B, *shape) by observation name
    previous_action: np.ndarray  # (B, A) float32; zeros where is_first
    is_first: np.ndarray  # (B,) bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """The chunk of actions to which the last decision of each row belongs."""

    actions: np.ndarray  # (B, H, A) float32
    steps: np.ndarray  # (B,) int32: which of the H actions it was


class Agent(Protocol):
    """Stateless but for its weights; what it remembers of an episode travels in `carry`."""

    def start(self, batch_size: int, seed: int) -> Any:
        """A fresh carry for `batch_size` environments; `seed` fixes every later draw of the agent."""
        ...

    def act(self, observation: Observation, carry: Any, mode: Mode = "sample") -> tuple[np.ndarray, Any]:
        """Actions (B, A) float32 inside the action bounds [-1, 1], and the next carry."""
        ...

    def join(self, carries: Sequence[Any]) -> Any:
        """Several batches as one, their rows in order. The given carries must not be used any more.

        A joined batch acts as its parts would have alone, up to the numerics of batches; random draws exactly so.
        """
        ...

    def split(self, carry: Any, sizes: Sequence[int]) -> list[Any]:
        """Back into batches of these sizes; rows that were started together stay together."""
        ...


@runtime_checkable
class Numbered(Protocol):
    """An agent whose episodes follow something that has numbers as well, such as recordings."""

    def start_episode(self, number: int, seed: int) -> Any:
        """A fresh carry for the one environment that plays the episode of that number."""
        ...


class Planner(Agent, Protocol):
    """An agent that decides on several actions at a time, and tells; records keep it as replay/schema.py says."""

    def plans(self, carry: Any) -> Plans: ...
