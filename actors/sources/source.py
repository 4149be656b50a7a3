"""The contract of an action source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from replay.schema import FieldSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    action_dim: int
    horizon: int
    fps: float
    fields: tuple[FieldSpec, ...]
    gripper: str
    provenance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    fields: Mapping[str, np.ndarray]
    prompt: str
    episode: int
    step: int
    seed: int
    executed: np.ndarray  # (k, A) float32: what was done of the chunk before; (0, A) at an episode's start


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionChunk:
    actions: np.ndarray
    latency_s: np.ndarray
    source_s: np.ndarray


class ActionSource(Protocol):
    @property
    def spec(self) -> SourceSpec: ...

    def act(self, requests: Sequence[Request]) -> ActionChunk: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    kind: Literal["", "scripted", "openpi", "lerobot", "recorded"] = ""
    execute_steps: int = 5
    horizon: int = 10
    variety: float = 1.0

    @property
    def plan_steps(self) -> int:
        """Of the chunks that records hold; 0 where no source is set."""
        return self.horizon if self.kind else 0

    @property
    def remote(self) -> bool:
        """Whether it thinks in another process."""
        return self.kind in ("openpi", "lerobot")
