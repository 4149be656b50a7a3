"""DC-MPC's agents: one that plans with MPPI on expected codes, one that follows the policy network.

Shapes: R rows of a flat batch, W the width of a layer; see mppi.py for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learners.agent import Mode, Observation
from learners.dcmpc import mppi
from learners.dcmpc.critics import Critics
from learners.dcmpc.mppi import MPPIConfig
from learners.dcmpc.policy import Policy
from learners.dcmpc.world import World
from learners.draws import Draws
from learners.nn.mlp import NormedLinear

LARGE = 2**21  # multiplications from which on oneDNN is ahead, on a CPU with vectors of 512 bits
WIDE = torch.backends.cpu.get_cpu_capability() == "AVX512"


class Imagined:
    """A world, a policy and critics as `mppi.Model`; reads their weights as they are when it is called.

    Does what their own methods do, faster where nothing is trained.
    """

    def __init__(self, world: World, policy: Policy, critics: Critics) -> None:
        self.world, self.policy, self.critics = world, policy, critics

    def step(self, z_RZ: Tensor, a_RA: Tensor) -> Tensor:
        prediction = forward(self.world.dynamics, torch.cat((z_RZ, a_RA), -1))
        return self.world.following(prediction.unflatten(-1, (-1, self.world.config.latent_dim)))

    def reward(self, z_RZ: Tensor, a_RA: Tensor) -> Tensor:
        return self.world.bounded(forward(self.world.rewards, torch.cat((z_RZ, a_RA), -1))[:, 0])

    def act(self, z_RZ: Tensor) -> Tensor:
        return torch.tanh(forward(self.policy.net, z_RZ))

    def value(self, z_BNZ: Tensor, a_BNA: Tensor, critics_BM: Tensor) -> Tensor:
        rows, of_each = critics_BM.shape
        chosen = critics_BM.flatten()
        x = torch.cat((z_BNZ, a_BNA), -1).repeat_interleave(of_each, 0)
        for layer in cast(list[Any], self.critics.nets.layers):
            x = torch.baddbmm(layer.bias[chosen], x, layer.weight[chosen])
            if layer.normed:
                gain, shift = -layer.gain, -layer.shift
                x = mish_of_negative(torch.addcmul(shift[chosen], F.layer_norm(x, x.shape[-1:]), gain[chosen]))
        return x[..., 0].unflatten(0, (rows, of_each)).mean(1)


def forward(net: nn.Sequential, x: Tensor) -> Tensor:
    """What a `learners.nn.mlp.mlp` makes of (R, inputs)."""
    *hidden, last = cast(list[NormedLinear], list(net))
    for layer in hidden:
        x = linear(x, layer.weight, layer.bias)
        x = mish_of_negative(F.layer_norm(x, x.shape[-1:], -layer.norm.weight, -layer.norm.bias))
    return linear(x, last.weight, last.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.linear. Large products on a wide CPU are oneDNN's: MKL, torch's choice, uses half of the vector of an AMD."""
    large = x.device.type == "cpu" and len(x) * weight.numel() >= LARGE
    if not (WIDE and large) or torch.compiler.is_compiling() or not torch.backends.mkldnn.is_available():
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def mish_of_negative(n: Tensor) -> Tensor:
    """mish(y) = y tanh(ln(1 + e^y)) of y = -n, to 1e-6 |n|: n - 2n / (1 + q^2) with q = sigmoid(n).

    Three passes over the numbers; torch's own kernel takes several times as long on a CPU.
    """
    if n.device.type != "cpu":
        return F.mish(-n)
    divisor = torch.sigmoid(n).square_().add_(1.0)
    return torch.addcdiv(n, n, divisor, value=-2.0)


class Carry(NamedTuple):
    mean_HBA: Tensor  # of the last plan
    draws: Draws


class Planner:
    """Plans with MPPI; see learners.agent.Agent. In mode "sample" with the noise of exploration, else without."""

    def __init__(
        self, config: MPPIConfig, world: World, policy: Policy, critics: Critics, field: str, spread: float
    ) -> None:
        """`field`: the observation that the world model reads; `spread`: deviation of the noise on actions."""
        self.config, self.world, self.critics, self.field, self.spread = config, world, critics, field, spread
        self.model = Imagined(world, policy, critics)

    def start(self, batch_size: int, seed: int) -> Carry:
        device = _device(self.world)
        mean = torch.zeros(self.config.horizon, batch_size, self.world.actions, device=device)
        return Carry(mean, Draws.start(batch_size, seed, device))

    @torch.inference_mode()
    def act(self, observation: Observation, carry: Carry, mode: Mode = "sample") -> tuple[np.ndarray, Carry]:
        mean, draws = carry
        z = self.world.encode(_tensor(observation.fields[self.field], mean.device))
        mean = mppi.shifted(mean, _tensor(observation.is_first, mean.device))
        counts = self.critics.config
        noise = mppi.noise(self.config, draws, self.world.actions, counts.members, counts.drawn)
        plan = mppi.plan(self.config, self.model, z, mean, noise, self.spread)
        action = plan.action_BA
        if mode == "sample":
            action = torch.add(action, noise.explore_BA, alpha=self.spread)
        return action.clamp(-1, 1).cpu().numpy(), Carry(plan.mean_HBA, draws)

    def join(self, carries: Sequence[Carry]) -> Carry:
        return Carry(torch.cat([c.mean_HBA for c in carries], 1), Draws.join([c.draws for c in carries]))

    def split(self, carry: Carry, sizes: Sequence[int]) -> list[Carry]:
        means = carry.mean_HBA.split(list(sizes), 1)
        return [Carry(mean, draws) for mean, draws in zip(means, carry.draws.split(sizes), strict=True)]


class Follower:
    """Follows the policy network, in mode "sample" with the noise of exploration; its carry is its random numbers."""

    def __init__(self, world: World, policy: Policy, field: str, spread: float) -> None:
        self.world, self.policy, self.field, self.spread = world, policy, field, spread

    def start(self, batch_size: int, seed: int) -> Draws:
        return Draws.start(batch_size, seed, _device(self.world))

    @torch.inference_mode()
    def act(self, observation: Observation, carry: Draws, mode: Mode = "sample") -> tuple[np.ndarray, Draws]:
        action = self.policy(self.world.encode(_tensor(observation.fields[self.field], _device(self.world))))
        if mode == "sample":
            action = torch.add(action, carry.normal(self.world.actions), alpha=self.spread)
        return action.clamp(-1, 1).cpu().numpy(), carry

    def join(self, carries: Sequence[Draws]) -> Draws:
        return Draws.join(carries)

    def split(self, carry: Draws, sizes: Sequence[int]) -> list[Draws]:
        return carry.split(sizes)


def _device(world: World) -> torch.device:
    return next(world.parameters()).device


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
