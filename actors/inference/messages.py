"""What travels between a runner and an inference actor. Arrays go as Ray carries them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from actors.policies import PolicySpec
from learners.agent import Observation
from replay.errors import TryAgain

Kind = Literal["died", "late", "forgotten"]


class InferenceError(TryAgain):
    """The inference actor died, took too long, or no longer knows an episode. The episode can be played again."""

    def __init__(self, message: str, mend: str, kind: Kind = "died") -> None:
        super().__init__(message, mend)
        self.args = (message, mend, kind)  # so that the error survives a trip through Ray
        self.kind = kind


class Key(NamedTuple):
    """What an actor remembers an episode by."""

    client: str  # a runner
    life: str  # of the client's agent: an older agent of that client is gone
    number: int  # of what that agent started


class Part(NamedTuple):
    """Rows that were started together, and how, so that the first decision can start them."""

    key: Key
    size: int  # rows
    seed: int
    fresh: bool  # no decision has been made yet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One decision for the rows of the parts, in order."""

    policy: PolicySpec
    version: int  # of the weights that must act
    parts: tuple[Part, ...]
    observation: Observation
    ended: tuple[Key, ...] = ()  # that will not come again

    @property
    def rows(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple(part.key for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reply:
    """Actions (B, A), or what the actor lacks: the weights, or what it remembered of the parts."""

    actions: np.ndarray | None = None
    lacks: Literal["", "weights", "past"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How an inference actor is. Counts are of this process."""

    pid: int
    versions: tuple[int, ...]  # of the weights that it holds
    decisions: int  # rows
    batches: int
    remembered: int  # rows
    busy_s: float  # since the batch that is being computed was begun; 0: none is
