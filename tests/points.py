"""A world small enough to learn in seconds: actions push a point, the reward says how near the middle it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from learners.dcmpc.critics import CriticsConfig
from learners.dcmpc.mppi import MPPIConfig
from learners.dcmpc.policy import PolicyConfig
from learners.dcmpc.system import DCMPCConfig
from learners.dcmpc.train import TrainConfig
from learners.dcmpc.world import WorldConfig
from learners.system import OptimConfig
from replay.schema import Episode, EpisodeKey, EpisodeSpec
from replay.sources.memory import MemorySource

SPEC = EpisodeSpec.build({"state": ((4,), "float32")}, action_dim=2)


def episode(number: int, steps: int, terminal: bool = False) -> Episode:
    """Places and speeds; the last step of every episode is a time limit, or a terminal state."""
    rng = np.random.default_rng(number)
    place, speed = rng.uniform(-1, 1, 2), np.zeros(2)
    state, action = np.zeros((steps, 4), np.float32), np.zeros((steps, 2), np.float32)
    reward = np.zeros(steps, np.float32)
    for t in range(steps):
        if t:
            action[t] = rng.uniform(-1, 1, 2)
            speed = 0.8 * speed + 0.3 * action[t]
            place = np.clip(place + speed, -1, 1)
            reward[t] = 2 - np.abs(place).sum()
        state[t] = (*place, *speed)
    flags = {name: np.zeros(steps, bool) for name in ("is_first", "is_last", "is_terminal")}
    flags["is_first"][0] = flags["is_last"][-1] = True
    flags["is_terminal"][-1] = terminal
    arrays = {"state": state, "action": action, "reward": reward, **flags}
    return Episode(key=EpisodeKey("points", 0, number), source="random", policy_version=0, arrays=arrays)


def source(episodes: int = 24, steps: int = 30, valid_share: float = 0.25, terminal: bool = False) -> MemorySource:
    return MemorySource(SPEC, [episode(n, steps, terminal) for n in range(episodes)], valid_share)


def config(world: dict[str, Any] | None = None, **train: Any) -> DCMPCConfig:
    """Networks of some ten thousand parameters."""
    fast = OptimConfig(lr=2e-3, betas=(0.9, 0.999), weight_decay=0.0, warmup_steps=0, decay=0.0, clip_norm=20.0)
    return DCMPCConfig(
        world=WorldConfig(
            **{"latent_dim": 8, "encoder": (32,), "hidden": (32,), "reward_high": 2.0, "optim": fast, **(world or {})}
        ),
        critics=CriticsConfig(hidden=(32,), optim=fast),
        policy=PolicyConfig(hidden=(32,), optim=fast),
        train=TrainConfig(**{"batch_size": 32, "tau": 0.05, "gamma": 0.5, **train}),
        mppi=MPPIConfig(samples=32, elites=8, policy_samples=4, iterations=2),
    )
