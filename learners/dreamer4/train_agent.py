"""Phase 2: behaviour cloning and reward prediction on agent tokens, while the dynamics loss goes on (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from learners.dreamer4.dynamics import Dynamics
from learners.dreamer4.segments import LatentStore, Segments, draw_segments
from learners.dreamer4.shortcut import draw
from learners.dreamer4.train_dynamics import DynamicsConfig, world_loss
from learners.nn.heads import PolicyHead, ScalarHead
from learners.nn.running import RunningRMS
from learners.system import Metrics, OptimConfig
from replay.source import Source, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    optim: OptimConfig = field(default_factory=OptimConfig, metadata={"flatten": True})
    levels: int = 11  # of each action dimension; 0 for a normal distribution
    distances: int = 8  # multi-token prediction: n = 0 .. distances - 1 (the paper says L = 8 and prints a sum to L)
    bins: int = 255  # of the symexp two-hot scalars
    limit: float = 20.0  # symlog of the largest scalar
    batch_size: int = 16
    length: int = 16
    noise: str = "context"  # of the frames that agent tokens read: as when acting; "forcing": as in the dynamics loss
    world_share: float = 1.0  # weight of the dynamics loss


class AgentHeads(nn.Module):
    """What reads the agent token in phase 2: the behaviour policy and the reward of its own block."""

    def __init__(self, config: AgentConfig, dim: int, actions: int) -> None:
        super().__init__()
        self.policy = PolicyHead(dim, actions, config.levels, config.distances)
        self.reward = ScalarHead(dim, config.bins, config.limit, config.distances)


class Targets(NamedTuple):
    """At distance n of frame t: the action taken n frames later, and the reward that came n frames later.

    The reward at distance 0 came with the frame itself, whose block holds the action that caused it.
    """

    action: Tensor  # (B, T, P, A)
    reward: Tensor  # (B, T, P)


def targets(batch: Segments, distances: int) -> Targets:
    """Windows of T + P frames -> targets of the first T."""
    action = batch.action[:, 1:].unfold(1, distances, 1).movedim(-1, 2)
    reward = batch.reward[:, :-1].unfold(1, distances, 1)
    return Targets(action, reward)


class AgentObjective:
    """`on_new_prior` is called when the policy head is about to change: what was copied from it is out of date."""

    def __init__(
        self,
        config: AgentConfig,
        world: DynamicsConfig,
        dynamics: Dynamics,
        heads: AgentHeads,
        store: LatentStore,
        on_new_prior: Callable[[], None] = lambda: None,
    ) -> None:
        self.config, self.world, self.dynamics, self.heads, self.store = config, world, dynamics, heads, store
        self.on_new_prior = on_new_prior
        self.optim = config.optim
        self.rms = nn.ModuleDict({name: RunningRMS() for name in ("world", "policy", "reward")})
        self._trained = nn.ModuleDict({"dynamics": dynamics, "heads": heads})

    def trained(self) -> nn.Module:
        return self._trained

    def prepare(self, source: Source) -> None:
        self.store.update(source)
        self.on_new_prior()

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Segments:
        config = self.config
        return draw_segments(self.store, source, key, config.batch_size, config.length + config.distances, progress)

    def loss(self, batch: Segments, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        length = self.config.length
        first = batch.map(lambda x: x[:, :length])
        first = first._replace(progress=max(batch.progress, self.world.bootstrap_from))
        world, metrics = world_loss(self.world, self.dynamics, first, generator)
        terms = {"world": world} | self.heads_loss(self.read(first, generator), targets(batch, self.config.distances))
        weights = {"world": self.config.world_share, "policy": 1.0, "reward": 1.0}
        loss = sum((weights[n] * self.rms[n](terms[n]) for n in weights), start=world.new_zeros(()))
        return loss, terms | {f"world_{n}": v for n, v in metrics.items()}

    def read(self, batch: Segments, generator: torch.Generator) -> Tensor:
        """Agent tokens h (B, T, D) of a window, every frame noised."""
        z = self.dynamics.standardise(batch.z)
        noise = self.dynamics.context_noise(z)
        if self.config.noise == "forcing":
            noise = draw((z.shape[0], z.shape[1]), self.dynamics.finest, 0.0, generator).noise
        task = torch.zeros(len(z), dtype=torch.long, device=z.device)
        noised = self.dynamics.noised(z, noise.level, generator)
        h = self.dynamics(noised, noise, batch.action, batch.labelled, task).h
        assert h is not None
        return h

    def heads_loss(self, h: Tensor, goal: Targets) -> dict[str, Tensor]:
        heads = self.heads
        return {
            "policy": -heads.policy(h).log_prob(goal.action).mean(),
            "reward": heads.reward.loss(heads.reward(h), goal.reward).mean(),
        }

    @torch.no_grad()
    def stepped(self) -> None:
        """Nothing follows."""

    def gate(self, source: Source) -> Metrics:
        """Held-out nats of the next action against those of the data's own action frequencies; reward error and R2."""
        config, device = self.config, self.dynamics.scale.device
        held_out: Split = "valid"
        batch = draw_segments(self.store, source, (0, 3), 128, config.length + config.distances, 1.0, held_out)
        batch = batch.map(lambda x: x.to(device))
        first = batch.map(lambda x: x[:, : config.length])
        h = self.read(first, torch.Generator(device).manual_seed(0))
        goal = targets(batch, config.distances)
        reward = self.heads.reward.mean(self.heads.reward(h)[..., 0, :])
        truth = goal.reward[..., 0]
        return {
            "policy_nats": float(-self.heads.policy.now(h).log_prob(goal.action[:, :, 0]).mean()),
            "reward_mae": float((reward - truth).abs().mean()),
            "reward_r2": float(1 - (reward - truth).square().mean() / truth.var().clamp(min=1e-9)),
        }

    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        return {}
