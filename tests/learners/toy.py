"""A system small enough to check by hand: linear regression of the reward on the field `state`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from learners import checkpoint
from learners.nn.running import RunningRMS
from learners.system import Metrics, OptimConfig
from replay.schema import Episode, EpisodeKey, EpisodeSpec
from replay.source import Source
from replay.sources.memory import MemorySource

STATES = 5
SPEC = EpisodeSpec.build({"state": ((STATES,), "float32")}, action_dim=2)
OPTIM = OptimConfig(lr=0.02, warmup_steps=5, ema=0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig:
    optim: OptimConfig = field(default_factory=lambda: OPTIM)
    batch_size: int = 16
    length: int = 4
    noise: float = 0.01
    rms: bool = True
    draws: int = 1  # of different ranks, which make one batch
    nan_from: float = 2.0  # progress between which the batches hold NaN
    nan_until: float = 2.0
    hang_from: float = 2.0  # progress from which a batch never comes
    gate_hangs: bool = False
    fail_rank: int = -1  # which cannot draw at all

    def build(self, spec: EpisodeSpec) -> Toy:
        return Toy(self)


class Batch(NamedTuple):
    x: Tensor  # (B, T, S)
    y: Tensor  # (B, T)


class Toy(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.fit = nn.Sequential(nn.Linear(STATES, 8), nn.LayerNorm(8), nn.Linear(8, 1))
        self.other = nn.Linear(2, 2)
        self.rms = RunningRMS()
        self.register_buffer("mean", torch.zeros(STATES))
        self._objective = ToyObjective(config, self)

    def objective(self, name: str) -> ToyObjective:
        return {"fit": self._objective}[name]

    def agent(self, name: str, explored: int = 0) -> None:
        raise KeyError(name)


class ToyObjective:
    def __init__(self, config: ToyConfig, toy: Toy) -> None:
        self.config, self.optim = config, config.optim
        self._toy = [toy]  # in a list, because it is not a part of this

    @property
    def toy(self) -> Toy:
        return self._toy[0]

    def trained(self) -> nn.Module:
        return self.toy.fit

    def prepare(self, source: Source) -> None:
        every = [source.episode(k, ["state"]).arrays["state"] for k in source.episodes("train")]
        self.toy.mean.copy_(torch.from_numpy(np.concatenate(every).mean(0)))

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Batch:
        if key[-1] == self.config.fail_rank:
            raise LookupError("nothing to draw")
        if progress >= self.config.hang_from:
            time.sleep(60)
        keys = [(*key[:-1], key[-1] + r) for r in range(self.config.draws)]
        drawn = [source.batch(k, self.config.batch_size, self.config.length, ["state", "reward"]) for k in keys]
        x, y = (torch.from_numpy(np.concatenate([d.arrays[n] for d in drawn])) for n in ("state", "reward"))
        return Batch(x * float("nan") if self.config.nan_from <= progress < self.config.nan_until else x, y)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        x = batch.x - self.toy.mean
        x = x + self.config.noise * torch.randn(x.shape, generator=generator, device=x.device)
        error = (self.toy.fit(x)[..., 0] - batch.y).square().mean()
        return (self.toy.rms(error) if self.config.rms else error), {"error": error}

    def stepped(self) -> None:
        """Nothing follows."""

    def gate(self, source: Source) -> Metrics:
        if self.config.gate_hangs:
            time.sleep(60)
        drawn = source.batch((0,), 256, 1, ["state", "reward"], "valid")
        x, y = (torch.from_numpy(drawn.arrays[n]) for n in ("state", "reward"))
        error = (self.toy.fit(x - self.toy.mean)[..., 0] - y).square().mean()
        return {"error": float(error), "training": float(self.toy.training)}

    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        return {"line": {"weight": self.toy.fit[0].weight.detach().numpy()}}


def source() -> MemorySource:
    """Episodes of 20 steps whose reward is a linear function of the state."""
    rng = np.random.default_rng(0)
    slope = np.linspace(-1, 1, STATES)
    return MemorySource(SPEC, [_episode(rng, slope, number) for number in range(30)], valid_share=0.3)


def _episode(rng: np.random.Generator, slope: np.ndarray, number: int, steps: int = 20) -> Episode:
    state = rng.normal(size=(steps, STATES)).astype(np.float32)
    flags = {name: np.zeros(steps, bool) for name in ("is_first", "is_last", "is_terminal")}
    flags["is_first"][0] = flags["is_last"][-1] = True
    arrays = {
        "state": state,
        "action": np.zeros((steps, 2), np.float32),
        "reward": (state @ slope).astype(np.float32),
    }
    key = EpisodeKey("toy", 0, number)
    return Episode(key=key, source="random", policy_version=0, arrays=arrays | flags)


def save_for_ever(root: Path, acknowledgements: object) -> None:
    """Saves one checkpoint after the other and tells the number of each that is complete."""
    number = int(path.name) + 1 if (path := checkpoint.latest_complete(root)) else 0
    while True:
        tensors = {"system": {f"w{i}": torch.full((64, 64), float(number)) for i in range(16)}}
        saved = checkpoint.Checkpoint(tensors=tensors, state={"number": number})
        checkpoint.save(root / f"{number:08d}", saved)
        checkpoint.prune(root, keep=2)
        acknowledgements.send(number)  # type: ignore[attr-defined]
        number += 1


def train_and_wait(directory: Path, updates: int) -> None:
    """`updates` of a stage of twice as many, a checkpoint, and more updates until somebody ends this process."""
    from learners.learner import Learner, LearnerConfig

    learner = Learner(LearnerConfig(), ToyConfig(), SPEC, source, seed=7)
    learner.begin("fit", "fit", 2 * updates)
    learner.update(updates)
    learner.save(directory)
    learner.update(3)
    (directory.parent / "saved").touch()
    time.sleep(60)
