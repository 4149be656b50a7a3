"""Whole episodes of planners that differ in one thing, and of one that plans in the true simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from search_simulator import GAMMA, Simulator, Trained
from torch import Tensor

from actors.envs.dmc import DMC
from learners.agent import Agent, Observation
from learners.dcmpc import mppi
from learners.dcmpc.mppi import MPPIConfig
from learners.dcmpc.planner import Imagined
from learners.draws import Draws

FIRST = 1000  # episode k starts as FIRST + k says, as in evaluations
EVERY = 15  # decisions between two states that are looked at
POLICY, TRUE = "policy", "A in the true simulator, learnt value"


class Cautious(Imagined):
    """Ends of plans are worth what the most pessimistic of all critics says."""

    def value(self, z_BNZ: Tensor, a_BNA: Tensor, critics_BM: Tensor) -> Tensor:
        return self.critics(z_BNZ.flatten(0, 1), a_BNA.flatten(0, 1)).amin(0).unflatten(0, z_BNZ.shape[:2])


class Omniscient:
    """Plans in the true simulator, one environment at a time: `see` says where it stands."""

    def __init__(self, trained: Trained, config: MPPIConfig) -> None:
        self.config, self.noise = config, trained.noise
        self.model = Simulator(trained)
        self.critics = trained.system.config.critics
        self.state = torch.zeros(0)

    def see(self, env: DMC) -> None:
        self.state = torch.from_numpy(env._env.physics.get_state())[None]

    def start(self, batch_size: int, seed: int) -> tuple[Tensor, Draws]:
        assert batch_size == 1
        return torch.zeros(self.config.horizon, 1, self.model.env.action_space.shape[0]), Draws.start(1, seed)

    def act(self, observation: Observation, carry: Any, mode: str = "sample") -> tuple[np.ndarray, Any]:
        mean, draws = carry
        mean = mppi.shifted(mean, torch.from_numpy(observation.is_first))
        noise = mppi.noise(self.config, draws, mean.shape[2], self.critics.members, self.critics.drawn)
        plan = mppi.plan(self.config, self.model, self.state, mean, noise, self.noise)
        return plan.action_BA.clamp(-1, 1).numpy(), (plan.mean_HBA, draws)


def play(trained: Trained, agent: Agent | Omniscient, episodes: int, states: list[np.ndarray] | None = None) -> float:
    """The mean return in mode "mode". `states` is given every `EVERY`th state of the physics, but for the last ones."""
    envs = [trained.simulator() for _ in range(episodes)]
    seen = [env.reset(seed=FIRST + k)[0] for k, env in enumerate(envs)]
    carry, previous = agent.start(episodes, 0), np.zeros((episodes, envs[0].action_space.shape[0]), np.float32)
    total = np.zeros(episodes)
    for t in range(envs[0].max_steps):
        if states is not None and t % EVERY == EVERY // 2:
            states += [env._env.physics.get_state() for env in envs]
        if isinstance(agent, Omniscient):
            agent.see(envs[0])
        fields = {"state": np.stack([s["state"] for s in seen])}
        observation = Observation(fields=fields, previous_action=previous, is_first=np.full(episodes, t == 0))
        previous, carry = agent.act(observation, carry, "mode")
        stepped = [env.step(a) for env, a in zip(envs, previous, strict=True)]
        seen = [s[0] for s in stepped]
        total += [s[1] for s in stepped]
    for env in envs:
        env.close()
    return float(total.mean())


def planners(trained: Trained) -> Mapping[str, tuple[MPPIConfig, mppi.Model | None]]:
    own = trained.config
    far = replace(own, discount=GAMMA, bootstrap_noise=False, action="mean")
    near = replace(far, samples=32, policy_samples=31, iterations=1, elites=4)
    cautious = Cautious(trained.system.world, trained.system.policy, trained.system.critics)
    return {
        "MPPI as configured": (own, None),
        "its plans' mean instead of one of the elite": (replace(own, action="mean"), None),
        "no noise at the plan's end": (replace(own, bootstrap_noise=False), None),
        f"A: both, and discount {GAMMA}": (far, None),
        "A, horizon 1": (replace(far, horizon=1), None),
        "A, elite weighed sharply (temperature 10)": (replace(far, temperature=10.0), None),
        "A, the most pessimistic critic": (far, cautious),
        "A, near the policy (31 of 32 sequences its own)": (near, None),
        "A, horizon 1, near the policy": (replace(near, horizon=1), None),
        "A, more search (256 sequences, 6 iterations)": (
            replace(far, samples=256, policy_samples=32, elites=32, iterations=6),
            None,
        ),
    }


def returns(trained: Trained, name: str, episodes: int, true_episodes: int) -> float:
    if name == POLICY:
        return play(trained, trained.system.agent("policy", 10**6), episodes)
    if name == TRUE:
        far = replace(trained.config, discount=GAMMA, bootstrap_noise=False, action="mean")
        agent = Omniscient(trained, far)
        return float(np.mean([play(trained, agent, 1) for _ in range(true_episodes)]))
    return play(trained, trained.planner(*planners(trained)[name]), episodes)


def visited(trained: Trained, count: int, agent: Agent | None = None) -> Tensor:
    """States of the physics (B, Z) in three episodes of the agent, of the policy if none is given."""
    states: list[np.ndarray] = []
    play(trained, agent or trained.system.agent("policy", 10**6), 3, states)
    chosen: Sequence[int] = np.linspace(0, len(states) - 1, min(count, len(states))).astype(int).tolist()
    return torch.from_numpy(np.stack([states[k] for k in chosen]))
