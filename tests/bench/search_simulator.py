"""A trained DC-MPC beside the true simulator of its task, which plans can be tried in like in its model.

Shapes as in learners/dcmpc/mppi.py; a state Z of the simulator is that of its physics.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import cast

import mujoco
import numpy as np
import torch
from torch import Tensor

from actors.envs.dmc import DMC
from actors.envs.registry import make, spec_of
from distwm.checkpoints import LEARNER, Checkpoints
from distwm.config import load_saved
from learners import checkpoint
from learners.dcmpc import mppi
from learners.dcmpc.mppi import MPPIConfig
from learners.dcmpc.planner import Imagined, Planner
from learners.dcmpc.system import DCMPC

GAMMA = 0.99
FOLLOWED = 250  # decisions for which the policy is followed: less than a tenth of the weight is cut off


class Trained:
    """The newest checkpoint of a run, and its environment."""

    def __init__(self, run_dir: Path) -> None:
        config = load_saved(run_dir / "config.yaml")
        newest = Checkpoints(run_dir / "checkpoints", keep=config.keep_checkpoints).newest()
        assert newest is not None, f"{run_dir} has no checkpoint"
        self.env = config.env
        simulator = self.simulator()
        self.system = cast(DCMPC, config.system.build(spec_of(simulator)))
        self.system.load_state_dict(checkpoint.load(newest / LEARNER).tensors["system"])
        self.system.eval().requires_grad_(False)
        self.noise = self.system.config.exploration.last
        self.config = self.system.config.mppi
        self.model = Imagined(self.system.world, self.system.policy, self.system.critics)

    def simulator(self) -> DMC:
        return cast(DMC, make(self.env, seed=0))

    def planner(self, config: MPPIConfig, model: mppi.Model | None = None) -> Planner:
        system = self.system
        found = Planner(config, system.world, system.policy, system.critics, "state", self.noise)
        found.model = cast(Imagined, model or found.model)
        return found

    @cached_property
    def critics(self) -> Tensor:
        """The numbers of all of them, for one row."""
        return torch.arange(self.system.config.critics.members)[None]


class Simulator:
    """The true simulator as a model for plans. A state is that of the physics, (R, qpos + qvel) float64."""

    def __init__(self, trained: Trained) -> None:
        self.imagined, self.world = trained.model, trained.system.world
        self.env = trained.simulator()
        self.env.reset(seed=0)
        self.physics, self.task = self.env._env.physics, self.env._env.task
        self.rewards: list[Tensor] = []

    def step(self, z_RZ: Tensor, a_RA: Tensor) -> Tensor:
        low, high = self.env._low, self.env._high
        controls = low + (np.clip(a_RA.double().numpy(), -1, 1) + 1) / 2 * (high - low)
        ends, rewards = [], []
        for state, control in zip(z_RZ.numpy(), controls, strict=True):
            self._go_to(state)
            reward = 0.0
            for _ in range(self.env.config.action_repeat):
                self.task.before_step(control, self.physics)
                self.physics.step(self.env._env._n_sub_steps)
                reward += self.task.get_reward(self.physics)
            rewards.append(reward)
            ends.append(self.physics.get_state())
        self.rewards.append(torch.tensor(rewards, dtype=torch.float32))
        return torch.from_numpy(np.stack(ends))

    def reward(self, z_RZ: Tensor, a_RA: Tensor) -> Tensor:
        """Of all steps since the last call, which were those."""
        found = torch.cat(self.rewards)
        assert len(found) == len(z_RZ)
        self.rewards = []
        return found

    def act(self, z_RZ: Tensor) -> Tensor:
        return self.imagined.act(self.encode(z_RZ))

    def value(self, z_BNZ: Tensor, a_BNA: Tensor, critics_BM: Tensor) -> Tensor:
        z = self.encode(z_BNZ.flatten(0, 1)).unflatten(0, z_BNZ.shape[:2])
        return self.imagined.value(z, a_BNA, critics_BM)

    def encode(self, z_RZ: Tensor) -> Tensor:
        return self.world.encode(self.observe(z_RZ))

    def observe(self, z_RZ: Tensor) -> Tensor:
        """What the agent would see of these states, (R, O)."""
        return torch.from_numpy(np.stack([self._observed(state) for state in z_RZ.numpy()]))

    def returns(self, z_RZ: Tensor, plans_HRA: Tensor, decisions: int = FOLLOWED) -> Tensor:
        """Discounted, (R,): of the plans' actions, and of the policy for so many decisions after them."""
        self.rewards = []
        for t in range(len(plans_HRA) + decisions):
            z_RZ = self.step(z_RZ, plans_HRA[t] if t < len(plans_HRA) else self.act(z_RZ))
        found, self.rewards = torch.stack(self.rewards), []
        return mppi.discounted(found, GAMMA)

    def _go_to(self, state: np.ndarray) -> None:
        self.physics.set_state(state)
        mujoco.mj_step1(self.physics.model.ptr, self.physics.data.ptr)

    def _observed(self, state: np.ndarray) -> np.ndarray:
        self._go_to(state)
        seen = self.task.get_observation(self.physics)
        return np.concatenate([np.ravel(v) for v in seen.values()], dtype=np.float32)
