"""Decisions of a planner, and its ranks of sequences of actions, against what the true simulator makes of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.stats import spearmanr
from search_simulator import GAMMA, Simulator, Trained
from torch import Tensor

from learners.agent import Observation
from learners.dcmpc import mppi
from learners.dcmpc.mppi import MPPIConfig
from learners.draws import Draws

PLANNED = 10  # decisions of MPPI, one after the other, before the policy goes on


def predicted(config: MPPIConfig, trained: Trained, model: mppi.Model, z_BZ: Tensor, plans_HBNA: Tensor) -> Tensor:
    """What a plan is worth to `model`, (B, N): rewards and the mean of all critics, discounted by gamma."""
    tried = mppi.attempt(replace(config, discount=GAMMA), model, z_BZ, plans_HBNA)
    last = model.act(tried.end_BNZ.flatten(0, 1)).unflatten(0, tried.end_BNZ.shape[:2])
    critics = trained.critics.expand(len(z_BZ), -1)
    return tried.reward_BN + GAMMA ** len(plans_HBNA) * model.value(tried.end_BNZ, last, critics)


def decisions(trained: Trained, states_BZ: Tensor) -> dict[str, np.ndarray]:
    """By state: what the action that MPPI takes is worth more than the policy's, as predicted and in truth."""
    simulator, model, config = Simulator(trained), trained.model, trained.config
    z = simulator.encode(states_BZ)
    draws = Draws.start(len(z), 0)
    counts, (actions,) = trained.system.config.critics, simulator.env.action_space.shape
    noise = mppi.noise(config, draws, actions, counts.members, counts.drawn)
    start = torch.zeros(config.horizon, len(z), actions)
    plan = mppi.plan(config, model, z, start, noise, trained.noise)
    policy = torch.stack(follow(simulator, states_BZ, config.horizon))
    chosen = torch.cat((plan.action_BA[None], plan.mean_HBA[1:]))
    one, own = plan.action_BA.clamp(-1, 1)[None], policy[:1]
    real, of_policy = simulator.returns(states_BZ, one), simulator.returns(states_BZ, own)
    worth = [predicted(config, trained, model, z, a[:, :, None])[:, 0] for a in (chosen, policy, one, own)]
    found = {
        "apart": (one - own)[0].norm(dim=-1),
        "plan": worth[0] - worth[1],
        "first": worth[2] - worth[3],
        "real": real - of_policy,
        "real_more": planned(trained, simulator, states_BZ) - of_policy,
        "value": of_policy,
        "bias": worth[3] - of_policy,
        "error_plan": code_error(trained, simulator, states_BZ, chosen),
        "error_policy": code_error(trained, simulator, states_BZ, policy),
    }
    return {name: x.numpy() for name, x in found.items()}


def planned(trained: Trained, simulator: Simulator, states_BZ: Tensor) -> Tensor:
    """True returns (B,) of some decisions of MPPI, which plans anew for each, and the policy's from there."""
    agent, z = trained.planner(trained.config), states_BZ
    carry, actions, count = agent.start(len(z), 0), list[Tensor](), len(z)
    for t in range(PLANNED):
        fields = {"state": simulator.observe(z).numpy()}
        previous = np.zeros((count, 1), np.float32)  # which it does not look at
        seen = Observation(fields=fields, previous_action=previous, is_first=np.full(count, t == 0))
        action, carry = agent.act(seen, carry, "mode")
        actions.append(torch.from_numpy(action))
        z = simulator.step(z, actions[-1])
    return simulator.returns(states_BZ, torch.stack(actions))


def follow(simulator: Simulator, states_BZ: Tensor, steps: int) -> list[Tensor]:
    """The policy's actions from there, (B, A) each."""
    found = []
    for _ in range(steps):
        found.append(simulator.act(states_BZ))
        states_BZ = simulator.step(states_BZ, found[-1])
    simulator.rewards = []
    return found


def code_error(trained: Trained, simulator: Simulator, states_BZ: Tensor, plans_HBA: Tensor) -> Tensor:
    """Mean squared error (B,) of the expected state at the end of a plan, to the codes of what really comes."""
    z = simulator.encode(states_BZ)
    for a in plans_HBA:
        z, states_BZ = trained.model.step(z, a), simulator.step(states_BZ, a)
    simulator.rewards = []
    return (z - simulator.encode(states_BZ)).square().mean(1)


def ranking(trained: Trained, states_BZ: Tensor, sequences: int) -> dict[str, dict[str, float]]:
    """How well predictions rank sequences of actions from the same state, for random ones and for the policy's with
    noise: Spearman's correlation with the truth; and how far the truth spreads, against how predictions are wrong."""
    simulator, generator = Simulator(trained), torch.Generator().manual_seed(0)
    shape = (trained.config.horizon, len(states_BZ), sequences, simulator.env.action_space.shape[0])
    policy = torch.stack(follow(simulator, states_BZ, shape[0]))[:, :, None]
    near = (policy + trained.noise * torch.randn(shape, generator=generator)).clamp(-1, 1)
    kinds = {"random": torch.rand(shape, generator=generator) * 2 - 1, "near the policy": near}
    found = {}
    for kind, plans in kinds.items():
        flat = plans.flatten(1, 2)
        real = simulator.returns(states_BZ.repeat_interleave(sequences, 0), flat).unflatten(0, shape[1:3])
        z = simulator.encode(states_BZ)
        learnt = predicted(trained.config, trained, trained.model, z, plans)
        true = predicted(trained.config, trained, simulator, states_BZ, plans)
        found[kind] = {
            "spread": float(real.std(1).mean()),
            "wrong": float((learnt - real - (learnt - real).mean(1, keepdim=True)).std(1).mean()),
            "model and critics": rank(learnt, real),
            "simulator and critics": rank(true, real),
            "best of the model": top(learnt, real),
            "best of the simulator": top(true, real),
        }
    return found


def rank(guess_BN: Tensor, real_BN: Tensor) -> float:
    found = [spearmanr(g, r).statistic for g, r in zip(guess_BN.numpy(), real_BN.numpy(), strict=True)]
    return float(np.nanmean(found))


def top(guess_BN: Tensor, real_BN: Tensor) -> float:
    """What the sequence that is predicted to be the best brings more than the mean one, in deviations."""
    best = real_BN.gather(1, guess_BN.argmax(1, keepdim=True))[:, 0]
    return float(((best - real_BN.mean(1)) / real_BN.std(1).clamp_min(1e-6)).mean())
