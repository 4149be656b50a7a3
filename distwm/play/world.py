"""The trained world model of a run, and the true frames from which a dream begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from actors.envs.registry import make, spec_of
from actors.lane import Episode as Played
from actors.lane import Lane
from distwm.checkpoints import LEARNER, Checkpoints
from distwm.config import RunConfig, load_saved
from learners import checkpoint
from replay.errors import BadInput
from replay.schema import Episode, EpisodeKey, EpisodeSpec


class Player(Protocol):
    """A dream that answers to actions, one frame at a time."""

    def reset(self, context: Episode) -> Any:
        """Begins after the true frames and actions of `context`."""
        ...

    def step(self, action: np.ndarray) -> np.ndarray:
        """The frame (H, W, 3) uint8 that follows the action (A,) in [-1, 1]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A system that can dream, and the environment that it dreams of."""

    config: RunConfig
    spec: EpisodeSpec
    system: Any  # has player(batch_size)

    @property
    def actions(self) -> int:
        return self.spec["action"].shape[0]

    def player(self) -> Player:
        """A dream of its own: several of them do not disturb each other."""
        return self.system.player(batch_size=1)

    def context(self, seed: int, steps: int) -> Episode:
        """The first steps of a real episode under random actions."""
        rng = np.random.default_rng(seed)
        lane = Lane(0, make(self.config.env, seed))
        try:
            lane.begin(Played(place=0, seed=seed))
            lane.finish()
            records = [lane.record]
            while len(records) < steps and not lane.done:
                lane.step(rng.uniform(-1, 1, self.actions).astype(np.float32))
                lane.finish()
                records.append(lane.record)
        finally:
            lane.env.close()
        arrays = {name: np.stack([record[name] for record in records]) for name in records[0]}
        return Episode(key=EpisodeKey("play", 0, seed), source="random", policy_version=0, arrays=arrays)


def load_world(run_dir: Path) -> World:
    """The newest complete checkpoint of a run. Raises BadInput if there is none, or its system cannot be played."""
    if not (run_dir / "config.yaml").is_file():
        raise BadInput(f"{run_dir} holds no run.", "Give the directory of a run, such as runs/dreamer4-....")
    config = load_saved(run_dir / "config.yaml")
    newest = Checkpoints(run_dir / "checkpoints", keep=config.keep_checkpoints).newest()
    if newest is None:
        raise BadInput(f"{run_dir} has no checkpoint yet.", "Wait until the dynamics are trained.")
    env = make(config.env, seed=0)
    try:
        spec = spec_of(env)
    finally:
        env.close()
    system = config.system.build(spec)
    if not hasattr(system, "player"):
        raise BadInput(
            f"{config.algorithm} has no world that can be played.",
            "Give a run of a system that has player(batch_size).",
        )
    torch.set_num_threads(1)  # a batch of one is no faster on more
    cast(nn.Module, system).load_state_dict(checkpoint.load(newest / LEARNER).tensors["system"])
    system.eval()
    return World(config=config, spec=spec, system=system)
