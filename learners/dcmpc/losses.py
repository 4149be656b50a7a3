"""The three losses of DC-MPC: world model, critics, policy. Each reaches the parameters of its own part alone.

Shapes: H transitions of the unrolled model, B rows, O numbers of an observation, A of an action, Z of a state, C x D of
its codes, K codes of each of D latent dimensions, N critics, M of them drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learners.dcmpc.batches import Update
from learners.dcmpc.classify import classify
from learners.dcmpc.critics import Critics
from learners.dcmpc.policy import Policy
from learners.dcmpc.targets import Returns, Targets
from learners.dcmpc.world import World
from learners.nn.fsq import Quantised


class Unrolled(NamedTuple):
    """What the model says of H transitions, given the first state and the actions alone."""

    error: Tensor  # (H, B): cross-entropy in nats of a latent dimension, or squared error with dynamics=mse
    reward: Tensor  # (H, B)


class Noise(NamedTuple):
    """The random numbers of one update; see train.py, which draws them."""

    codes_GBKD: Tensor | None  # by which codes are drawn; None: the model goes on from expected ones
    smoothing_BA: Tensor  # disturbs the target policy's actions (TD3)
    targets_M: Tensor  # the target critics of this update
    critics_M: Tensor | None  # those by which the policy improves; None where it does not


def unroll(world: World, z_BZ: Tensor, action_HBA: Tensor, goal: Quantised, noise_GBKD: Tensor | None) -> Unrolled:
    """`goal`: codes (H, B, C, D) and indices (H, B, D) of the observations that came. Without `noise` the model goes on
    from the expected codes, with it from drawn ones: G = H - 1 times, as nothing follows the last transition."""
    errors, inputs, z = [], [], z_BZ
    for t, a in enumerate(action_HBA):
        za = torch.cat((z, a), -1)
        inputs.append(za)
        error, z = _advance(world, za, goal, t, noise_GBKD)
        errors.append(error)
    return Unrolled(torch.stack(errors), world.reward_of(torch.stack(inputs)))


def _advance(world: World, za: Tensor, goal: Quantised, t: int, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    prediction = world.predict(za)
    if world.config.dynamics == "mse":
        code = world.encoding(prediction).code
        return (code - goal.code[t]).square().mean((1, 2)), code.flatten(1)
    assert goal.indices is not None
    drawn = noise[t] if noise is not None and t < len(noise) else None
    error, code = classify(prediction, goal.indices[t], drawn, world.encoding.book())
    return error, code.flatten(1)


def weights(kept_TB: Tensor, rho: float) -> Tensor:
    """Of transition t of each row: rho^t where it is kept, else 0. The mean over all of weight times error is the
    loss: (1/T) sum_t rho^t times the mean over rows."""
    return rho ** torch.arange(len(kept_TB), dtype=torch.float32)[:, None] * kept_TB


def critic_loss(
    critics: Critics,
    targets: Targets,
    z_BZ: Tensor,
    action_BA: Tensor,
    z_next_BZ: Tensor,
    returns: Returns,
    whole_B: Tensor,
    noise: Noise,
) -> tuple[Tensor, Tensor]:
    """(mean squared error to the return with the smallest of a few targets, mean value)."""
    with torch.no_grad():
        a = (targets.policy(z_next_BZ) + noise.smoothing_BA).clamp(-1, 1)
        value = targets.critics.lowest(z_next_BZ, a, noise.targets_M)
        goal = returns.total + returns.discount * value
    values_NB = critics(z_BZ, action_BA)
    return ((values_NB - goal).square() * whole_B).mean(), values_NB.detach().mean()


def policy_loss(critics: Critics, policy: Policy, z_BZ: Tensor, members_M: Tensor) -> Tensor:
    """Minus the mean of a few critics at the policy's own action."""
    return -critics.mean(z_BZ, policy(z_BZ), members_M, frozen=True).mean()


def targets_of(world: World, batch: Update) -> tuple[Quantised, Tensor]:
    """Without gradients: the codes of all later observations, and the states (B, Z) that the returns go on from."""
    with torch.no_grad():
        goal = world.quantise(batch.observation[1:])
        at = (batch.returns.steps - 1).clamp(min=0)
        rows = torch.arange(len(at), device=at.device)
        return goal, goal.code[at, rows].flatten(1)
