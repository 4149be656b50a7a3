"""The smallest system: one weight that learns a constant from recorded rewards, and an agent that stands still."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learners.agent import Mode, Observation
from learners.system import Metrics, OptimConfig
from replay.schema import EpisodeSpec
from replay.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class LineConfig:
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(warmup_steps=0), metadata={"flatten": True})
    batch_size: int = 4
    pause_s: float = 0.0  # of each batch: time enough to be killed in
    poison_update: int = -1  # the losses from here on are not finite
    broken: bool = False  # the loss raises, as a mistake in it would


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig:
    line: LineConfig = field(default_factory=LineConfig)

    def build(self, spec: EpisodeSpec) -> Toy:
        return Toy(self, spec)


class Toy(nn.Module):
    def __init__(self, config: ToyConfig, spec: EpisodeSpec) -> None:
        super().__init__()
        self.weight = nn.Linear(1, 1)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self._line = LineObjective(config.line, self)
        self.actions = spec["action"].shape[0]

    def objective(self, name: str) -> LineObjective:
        if name != "line":
            raise KeyError(f"toy has no objective {name!r}; there is line")
        return self._line

    def agent(self, name: str, explored: int = 0) -> Still:
        if name != "still":
            raise KeyError(f"toy has no agent {name!r}; there is still")
        return Still(self.actions)


class LineObjective:
    def __init__(self, config: LineConfig, system: Toy) -> None:
        self.config, self.system, self.optim = config, system, config.optim

    def trained(self) -> nn.Module:
        return self.system.weight

    def prepare(self, source: Source) -> None:
        assert source.episodes("train"), "the collected episodes must be there when a stage starts"

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Tensor:
        time.sleep(self.config.pause_s)
        drawn = source.batch(key, self.config.batch_size, 2, ["reward"])
        return torch.from_numpy(np.ascontiguousarray(drawn.arrays["reward"]))

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        if self.config.broken:
            raise RuntimeError("a mistake in the loss")
        noise = torch.randn(batch.shape, generator=generator, device=batch.device)
        error = (self.system.weight(batch[..., None])[..., 0] - 1 + 0.01 * noise).square().mean()
        if 0 <= self.config.poison_update <= int(self.system.updates):
            error = error * float("nan")
        self.system.updates += 1
        return error, {"error": error.detach()}

    def stepped(self) -> None:
        """Nothing follows."""

    def gate(self, source: Source) -> Metrics:
        return {"steps_done": float(self.system.updates)}

    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        return {"line": {"weight": self.system.weight.weight.detach().cpu().numpy()}}


class Still:
    """Always the action 0."""

    def __init__(self, actions: int) -> None:
        self.actions = actions

    def start(self, batch_size: int, seed: int) -> Any:
        return None

    def act(self, observation: Observation, carry: Any, mode: Mode = "sample") -> tuple[np.ndarray, Any]:
        return np.zeros((len(observation.is_first), self.actions), np.float32), carry

    def join(self, carries: Sequence[Any]) -> Any:
        return None

    def split(self, carry: Any, sizes: Sequence[int]) -> list[Any]:
        return [None] * len(sizes)
