"""Output heads and what they say: actions in levels or as a normal, scalars as symexp two-hot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from learners.draws import Source, categorical, randn_like
from learners.maths import symexp, symlog, two_hot


class ActionDistribution(Protocol):
    """A distribution over actions in [-1, 1]^A; all results have the batch shape of its parameters."""

    def sample(self, generator: Source) -> Tensor: ...
    def mode(self) -> Tensor: ...
    def log_prob(self, action: Tensor) -> Tensor: ...
    def entropy(self) -> Tensor: ...
    def kl(self, other: ActionDistribution) -> Tensor:
        """KL[self || other] in nats."""
        ...


@dataclass(frozen=True, slots=True)
class Levels:
    """Independent categoricals over `n` evenly spaced levels of each action dimension; logits (..., A, n).

    Two levels are a key that is up or down, `n` levels of one dimension are n discrete actions, a handful of levels
    is a continuous action, quantised: it keeps several modes, which the data of mixed behaviour has.
    """

    logits: Tensor

    @property
    def values(self) -> Tensor:
        return torch.linspace(-1, 1, self.logits.shape[-1], device=self.logits.device)

    def sample(self, generator: Source) -> Tensor:
        return self.values[categorical(self.logits.float().softmax(-1), generator)]

    def mode(self) -> Tensor:
        return self.values[self.logits.argmax(-1)]

    def index(self, action: Tensor) -> Tensor:
        """The nearest level of each action dimension."""
        top = self.logits.shape[-1] - 1
        return ((action.clamp(-1, 1) + 1) / 2 * top).round().long()

    def log_prob(self, action: Tensor) -> Tensor:
        return self.logits.log_softmax(-1).gather(-1, self.index(action)[..., None])[..., 0].sum(-1)

    def entropy(self) -> Tensor:
        log = self.logits.log_softmax(-1)
        return -(log.exp() * log).sum((-1, -2))

    def kl(self, other: ActionDistribution) -> Tensor:
        assert isinstance(other, Levels)
        log = self.logits.log_softmax(-1)
        return (log.exp() * (log - other.logits.log_softmax(-1))).sum((-1, -2))


@dataclass(frozen=True, slots=True)
class BoundedNormal:
    """A normal of mean tanh(m) and its own deviation; samples are clipped to [-1, 1]. Parameters (..., A, 2)."""

    params: Tensor

    @property
    def normal(self) -> Normal:
        mean, raw = self.params.unbind(-1)
        return Normal(mean.tanh(), 0.05 + nn.functional.softplus(raw))

    def sample(self, generator: Source) -> Tensor:
        normal = self.normal
        return (normal.loc + normal.scale * randn_like(normal.loc, generator)).clamp(-1, 1)

    def mode(self) -> Tensor:
        return self.normal.loc

    def log_prob(self, action: Tensor) -> Tensor:
        return self.normal.log_prob(action).sum(-1)

    def entropy(self) -> Tensor:
        return self.normal.entropy().sum(-1)

    def kl(self, other: ActionDistribution) -> Tensor:
        assert isinstance(other, BoundedNormal)
        return kl_divergence(self.normal, other.normal).sum(-1)


class PolicyHead(nn.Module):
    """Features (..., D) -> the actions at distances 0 .. P-1, one output layer per distance (multi-token prediction).

    `levels` 0 chooses the normal. Distance 0 is the action to take now.
    """

    def __init__(self, dim: int, actions: int, levels: int, distances: int) -> None:
        super().__init__()
        self.levels = levels
        self.shape = (distances, actions, levels or 2)
        self.body = _body(dim)
        self.out = nn.Linear(dim, distances * actions * (levels or 2))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor) -> ActionDistribution:
        """Batch shape (..., P)."""
        out = self.out(self.body(h)).unflatten(-1, self.shape)
        return Levels(out) if self.levels else BoundedNormal(out)

    def now(self, h: Tensor) -> ActionDistribution:
        """The distribution of the next action alone; batch shape (...)."""
        _, actions, size = self.shape
        width = actions * size
        out = nn.functional.linear(self.body(h), self.out.weight[:width], self.out.bias[:width])
        out = out.unflatten(-1, (actions, size))
        return Levels(out) if self.levels else BoundedNormal(out)


class ScalarHead(nn.Module):
    """Features (..., D) -> scalars at distances 0 .. P-1 as symexp two-hot distributions (DreamerV3, "critic")."""

    bins: Tensor

    def __init__(self, dim: int, bins: int, limit: float, distances: int = 1) -> None:
        super().__init__()
        self.distances = distances
        self.body = _body(dim)
        self.out = nn.Linear(dim, distances * bins)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("bins", torch.linspace(-limit, limit, bins))

    def forward(self, h: Tensor) -> Tensor:
        """Logits (..., P, K)."""
        return self.out(self.body(h)).unflatten(-1, (self.distances, -1))

    def mean(self, logits: Tensor) -> Tensor:
        """(..., K) -> (...): symexp of the expected bin, in the scalar's own unit."""
        return symexp((logits.softmax(-1) * self.bins).sum(-1))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy to the two-hot of symlog(target): (..., K), (...) -> (...)."""
        return -(two_hot(symlog(target), self.bins) * logits.log_softmax(-1)).sum(-1)


def _body(dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, dim), nn.RMSNorm(dim), nn.SiLU())
