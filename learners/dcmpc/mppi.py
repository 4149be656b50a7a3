"""Model predictive path integral control: sequences of actions are tried in a model, and the best of them averaged into
the distribution that the next ones come from (Williams et al. 2015; as in DC-MPC, arXiv 2503.00653, and TD-MPC).

All sequences of all rows are one batch of the model. Static shapes, no branch that depends on a tensor, and every
random number is drawn beforehand: a plan can be compiled, or captured as a CUDA graph.

Shapes: B rows (environments), H steps, I iterations, N sequences of a row, of which P are the policy's and n = N - P
are drawn; E elites; A numbers of an action, Z of a state; M critics of an estimate. Flat batches, R = B N, keep the
sequences of a row together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from learners.draws import Draws
from replay.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class MPPIConfig:
    horizon: int = 3  # decisions ahead
    iterations: int = 6
    samples: int = 512  # sequences of an iteration
    policy_samples: int = 24  # of them, those of the policy with noise, the same in every iteration
    elites: int = 64  # the best, of which the next distribution is made
    temperature: float = 0.5  # of their weights exp(temperature (V - max V)); 0 weighs them alike
    std: float = 2.0  # where the distribution begins, and the most that it may be
    std_least: float = 0.05
    discount: float = 0.9  # of rewards within a plan; the released code takes the one of its losses, not gamma
    action: Literal["elite", "mean"] = "elite"  # a sequence of the elite drawn by its weight, or the mean of all
    bootstrap_noise: bool = True  # whether the policy's action at the end of a plan has noise as well

    def __post_init__(self) -> None:
        if min(self.horizon, self.iterations, self.elites) < 1 or self.elites > self.samples:
            raise BadInput(
                f"{self} plans nothing.", "Give horizon and iterations from 1, elites from 1 to mppi.samples."
            )
        if not 0 <= self.policy_samples < self.samples:
            raise BadInput(
                f"{self.policy_samples} of {self.samples} sequences cannot come from the policy.",
                "Set mppi.policy_samples from 0, below mppi.samples.",
            )
        if not 0 < self.std_least <= self.std:
            raise BadInput(
                f"A deviation from {self.std_least} to {self.std} is none.", "Set 0 < mppi.std_least <= mppi.std."
            )

    @property
    def drawn(self) -> int:
        """n"""
        return self.samples - self.policy_samples


class Model(Protocol):
    """What plans are tried in."""

    def step(self, z_RZ: Tensor, a_RA: Tensor) -> Tensor:
        """The states (R, Z) that are expected next."""
        ...

    def reward(self, z_RZ: Tensor, a_RA: Tensor) -> Tensor:
        """(R,)"""
        ...

    def act(self, z_RZ: Tensor) -> Tensor:
        """The policy's actions (R, A) in [-1, 1], without noise."""
        ...

    def value(self, z_BNZ: Tensor, a_BNA: Tensor, critics_BM: Tensor) -> Tensor:
        """(B, N): for each row, the mean of the critics with these numbers."""
        ...


class Noise(NamedTuple):
    """The random numbers of a decision: normal ones, critics without repetition, a place in [0, 1) among the elite."""

    policy_HBPA: Tensor
    drawn_IHBnA: Tensor
    end_IBNA: Tensor
    critics_IBM: Tensor
    elite_B: Tensor
    explore_BA: Tensor


class Plan(NamedTuple):
    action_BA: Tensor  # without the noise of exploration
    mean_HBA: Tensor
    std_HBA: Tensor


class Tried(NamedTuple):
    actions_HBNA: Tensor
    reward_BN: Tensor  # discounted, of all steps
    end_BNZ: Tensor  # the states that they lead to


def noise(config: MPPIConfig, draws: Draws, actions: int, critics: int, of_each: int) -> Noise:
    """What a decision of these rows needs. `of_each`: M, of so many `critics`."""
    shapes = (
        (config.horizon, config.policy_samples, actions),
        (config.iterations, config.horizon, config.drawn, actions),
        (config.iterations, config.samples, actions),
        (actions,),
    )
    sizes = [torch.Size(shape).numel() for shape in shapes]
    parts = draws.normal(sum(sizes)).split(sizes, 1)
    policy, drawn, end, explore = (part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True))
    uniform = draws.uniform(config.iterations * critics + 1)
    chosen = uniform[:, 1:].unflatten(1, (config.iterations, critics)).topk(of_each, -1).indices
    return Noise(
        policy.transpose(0, 1),
        drawn.permute(1, 2, 0, 3, 4).contiguous(),
        end.transpose(0, 1),
        chosen.transpose(0, 1),
        uniform[:, 0],
        explore,
    )


def plan(config: MPPIConfig, model: Model, z_BZ: Tensor, mean_HBA: Tensor, noise: Noise, spread: float) -> Plan:
    """The first action of the plan that comes of `mean`; `spread` is the deviation of the policy's noise."""
    std_HBA = torch.full_like(mean_HBA, config.std)
    policy: Tried | None = None
    for drawn_HBnA, end_BNA, critics_BM in zip(noise.drawn_IHBnA, noise.end_IBNA, noise.critics_IBM, strict=True):
        drawn = torch.addcmul(mean_HBA[:, :, None], std_HBA[:, :, None], drawn_HBnA).clamp_(-1, 1)
        if policy is None:
            tried = attempt(config, model, z_BZ, drawn, noise.policy_HBPA * spread)
            policy = _first(tried, config.policy_samples)
        else:
            tried = _beside(policy, attempt(config, model, z_BZ, drawn))
        last = model.act(tried.end_BNZ.flatten(0, 1)).unflatten(0, end_BNA.shape[:2])
        if config.bootstrap_noise:
            last = torch.add(last, end_BNA, alpha=spread).clamp_(-1, 1)
        values = tried.reward_BN + config.discount**config.horizon * model.value(tried.end_BNZ, last, critics_BM)
        elites_HBEA, weights_BE = elite(config, values, tried.actions_HBNA)
        mean_HBA, std_HBA = moments(config, elites_HBEA, weights_BE)
    first_BEA = elites_HBEA[0]
    action = mean_HBA[0] if config.action == "mean" else pick(first_BEA, weights_BE, noise.elite_B)
    return Plan(action, mean_HBA, std_HBA)


def attempt(
    config: MPPIConfig, model: Model, z_BZ: Tensor, drawn_HBnA: Tensor, policy_HBPA: Tensor | None = None
) -> Tried:
    """What follows on the drawn actions; and, in front of them, on the policy's with this noise."""
    states, actions = [], []
    own = 0 if policy_HBPA is None else policy_HBPA.shape[2]
    size = (len(z_BZ), own + drawn_HBnA.shape[2])
    z_RZ = z_BZ.repeat_interleave(size[1], 0)
    for t, a_BNA in enumerate(drawn_HBnA):
        if policy_HBPA is not None and own:
            z_BPZ = z_RZ.unflatten(0, size)[:, :own]
            chosen = model.act(z_BPZ.flatten(0, 1)).unflatten(0, z_BPZ.shape[:2])
            a_BNA = torch.cat((torch.add(chosen, policy_HBPA[t]).clamp_(-1, 1), a_BNA), 1)
        states.append(z_RZ)
        actions.append(a_BNA.flatten(0, 1))
        z_RZ = model.step(z_RZ, actions[-1])
    actions_RA = torch.cat(actions)
    reward_HR = model.reward(torch.cat(states), actions_RA).unflatten(0, (len(states), -1))
    return Tried(
        actions_RA.unflatten(0, (len(states), *size)),
        discounted(reward_HR, config.discount).unflatten(0, size),
        z_RZ.unflatten(0, size),
    )


def _first(tried: Tried, count: int) -> Tried:
    return Tried(tried.actions_HBNA[:, :, :count], tried.reward_BN[:, :count], tried.end_BNZ[:, :count])


def _beside(one: Tried, other: Tried) -> Tried:
    return Tried(*(torch.cat(pair, -2 if pair[0].dim() > 2 else -1) for pair in zip(one, other, strict=True)))


def discounted(reward_HR: Tensor, discount: float) -> Tensor:
    """sum_t discount^t r_t, (R,)."""
    total = reward_HR[0]
    for t in range(1, len(reward_HR)):
        total = torch.add(total, reward_HR[t], alpha=discount**t)
    return total


def elite(config: MPPIConfig, values_BN: Tensor, actions_HBNA: Tensor) -> tuple[Tensor, Tensor]:
    """(sequences (H, B, E, A) of the highest values, weights (B, E) that sum to 1). What is no number counts as 0."""
    best = values_BN.nan_to_num(0.0).topk(config.elites, 1)
    size = (*actions_HBNA.shape[:2], config.elites, actions_HBNA.shape[3])
    found = actions_HBNA.gather(2, best.indices[None, :, :, None].expand(size))
    return found, (config.temperature * best.values).softmax(1)


def moments(config: MPPIConfig, elites_HBEA: Tensor, weights_BE: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and deviation of the elite, (H, B, A) each, the deviation within its bounds."""
    weights = weights_BE[:, :, None]
    mean = (weights * elites_HBEA).sum(2)
    variance = (weights * (elites_HBEA - mean[:, :, None]).square_()).sum(2)
    return mean, variance.sqrt_().clamp_(config.std_least, config.std)


def pick(elites_BEA: Tensor, weights_BE: Tensor, place_B: Tensor) -> Tensor:
    """For each row, one of the elite (A) with the probability of its weight: the one that lies at `place` in [0, 1)."""
    index = (weights_BE.cumsum(1) <= place_B[:, None]).sum(1).clamp_max_(elites_BEA.shape[1] - 1)
    return elites_BEA.gather(1, index[:, None, None].expand(-1, 1, elites_BEA.shape[2]))[:, 0]


def shifted(mean_HBA: Tensor, is_first_B: Tensor) -> Tensor:
    """Where the next plan starts: the last one, a step on, with zeros at its end; all zeros in a row that begins."""
    following = torch.cat((mean_HBA[1:], torch.zeros_like(mean_HBA[:1])))
    return following.masked_fill(is_first_B[None, :, None], 0.0)
