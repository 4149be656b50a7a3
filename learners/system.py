"""The contract between an algorithm and whoever runs it: objectives to train, agents to act, checks to pass."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from learners.agent import Agent
from learners.collective import Peers
from replay.schema import EpisodeSpec
from replay.source import Source

Metrics = dict[str, float]

# One line per algorithm: name -> "module:ConfigClass". The config class has `build(spec) -> System`.
SYSTEMS: Mapping[str, str] = {
    "dreamer4": "learners.dreamer4.system:Dreamer4Config",
    "dcmpc": "learners.dcmpc.system:DCMPCConfig",
    "rvq": "learners.rvq.system:RVQConfig",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimConfig:
    """One optimiser of one stage: linear warm-up, then constant, then linear cool-down over the `decay` share."""

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.01
    warmup_steps: int = 100
    decay: float = 0.2
    clip_norm: float = 1.0
    name: str = "adamw"  # or "muon": Muon for matrices, AdamW for the rest
    ema: float = 0.0  # decay of the averaged weights; 0 keeps none


class Objective(Protocol):
    """Anything that is trained. Holds no optimiser, no device choice, no I/O, no logging."""

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Any:
        """The training batch of this step: CPU work only, so that a loader thread can run it ahead of time.

        `key` seeds the draw; `progress` in [0, 1) is the share of the stage that is done, for schedules.
        """
        ...

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(scalar, metrics): every random draw comes from `generator`, on the device of the parameters."""
        ...

    @property
    def optim(self) -> OptimConfig | Mapping[str, OptimConfig]:
        """One for all that is trained, or one for each child of `trained()`, by its name."""
        ...

    def trained(self) -> nn.Module | nn.ModuleDict:
        """The part of the system whose parameters this objective updates; the rest stays frozen."""
        ...

    def stepped(self) -> None:
        """Called after each update that counted, without gradients: target networks follow."""
        ...

    def prepare(self, source: Source) -> None:
        """Called once when the stage starts (and again after a resume): dataset statistics, encoded latents, ..."""
        ...

    def gate(self, source: Source) -> Metrics:
        """Held-out figures by which the stage is judged; the recipe holds the thresholds."""
        ...

    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        """What the report shows of this stage: arrays by name, by the name of their file. Empty if there is nothing."""
        ...


@runtime_checkable
class Merging(Protocol):
    """An objective that counts something of every batch, and has to know it of the whole group's, not of its own."""

    def merge(self, peers: Peers) -> None:
        """Called after each update that counted, before `stepped`, by all learners of a group together: what was
        counted becomes what all have counted. Buffers are those of the first learner afterwards, as ever."""
        ...


class System(Protocol):
    """One algorithm's networks, its objectives and its agents. Is an nn.Module, so state_dict() is its whole state."""

    def objective(self, name: str) -> Objective: ...

    def agent(self, name: str, explored: int = 0) -> Agent:
        """`explored` is how many episodes the stage has collected with it, for schedules of exploration.

        Raises KeyError, naming the agents there are.
        """
        ...


class SystemConfig(Protocol):
    def build(self, spec: EpisodeSpec) -> System: ...


def config_class(recipe: str) -> type:
    """The configuration class of an algorithm. Raises KeyError for an unknown name."""
    module, name = SYSTEMS[recipe].split(":")
    return getattr(importlib.import_module(module), name)
