"""Phase 3 as an objective: dream, value the dream, move the policy; the trunk and the prior stay frozen."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from learners.dreamer4.dynamics import Dynamics
from learners.dreamer4.imagination import dream, pmpo_loss
from learners.dreamer4.segments import LatentStore, Segments, draw_segments
from learners.dreamer4.train_agent import AgentConfig, AgentHeads
from learners.maths import lambda_returns
from learners.nn.heads import PolicyHead, ScalarHead
from learners.nn.running import RunningRMS
from learners.system import Metrics, OptimConfig
from replay.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaginationConfig:
    optim: OptimConfig = field(default_factory=OptimConfig, metadata={"flatten": True})
    contexts: int = 64  # dreams at once, one per context
    context: int = 10  # true frames of each
    horizon: int = 15  # dreamt frames
    steps: int = 4  # shortcut steps of a frame (K)
    gamma: float = 0.997
    lam: float = 0.95
    alpha: float = 0.5
    beta: float = 0.3
    value_warmup: float = 0.0  # progress before which the policy waits for the value


class ActorCritic(nn.Module):
    """A policy that starts as a copy of the prior, and the value of what it does."""

    started: Tensor

    def __init__(self, config: AgentConfig, dim: int, actions: int) -> None:
        super().__init__()
        self.policy = PolicyHead(dim, actions, config.levels, 1)
        self.value = ScalarHead(dim, config.bins, config.limit)
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def start(self, prior: PolicyHead) -> None:
        """Copy the prior's distance 0, once a round."""
        width = self.policy.out.out_features
        self.policy.body = copy.deepcopy(prior.body).requires_grad_(True)
        self.policy.out.weight.copy_(prior.out.weight[:width])
        self.policy.out.bias.copy_(prior.out.bias[:width])
        self.started.fill_(True)


class ImaginationObjective:
    """`shuffled` permutes the signs of the advantages over the batch: the control that must not gain."""

    def __init__(
        self,
        config: ImaginationConfig,
        dynamics: Dynamics,
        heads: AgentHeads,
        actor: ActorCritic,
        store: LatentStore,
        shuffled: bool = False,
    ) -> None:
        self.config, self.dynamics, self.heads, self.actor, self.store = config, dynamics, heads, actor, store
        self.shuffled = shuffled
        self.optim = config.optim
        self.rms = nn.ModuleDict({"policy": RunningRMS(), "value": RunningRMS()})

    def trained(self) -> nn.Module:
        return self.actor

    def prepare(self, source: Source) -> None:
        self.store.update(source)
        if not bool(self.actor.started):
            self.actor.start(self.heads.policy)

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Segments:
        return draw_segments(self.store, source, key, self.config.contexts, self.config.context, progress)

    def loss(self, batch: Segments, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        config, actor = self.config, self.actor
        dreamt = dream(self.dynamics, self.heads, actor.policy, batch, config.horizon, config.steps, generator)
        logits = actor.value(dreamt.h)[..., 0, :]
        value = actor.value.mean(logits.detach())
        returns = lambda_returns(dreamt.reward, value, config.gamma, config.lam)
        advantage = returns - value[:, :-1]
        if self.shuffled:
            order = torch.randperm(advantage.numel(), generator=generator, device=advantage.device)
            advantage = advantage.flatten()[order].view_as(advantage)
        policy, prior = actor.policy.now(dreamt.h[:, :-1]), self.heads.policy.now(dreamt.h[:, :-1])
        kl = policy.kl(prior)
        terms = {
            "policy": pmpo_loss(policy.log_prob(dreamt.action), advantage, kl, config.alpha, config.beta),
            "value": actor.value.loss(logits[:, :-1], returns).mean(),
        }
        waits = batch.progress < config.value_warmup
        loss = self.rms["value"](terms["value"]) + (0.0 if waits else terms["policy"])
        return loss, terms | {
            "dreamt_reward": dreamt.reward.mean(),
            "dreamt_return": returns[:, 0].mean(),
            "kl_prior": kl.mean(),
            "entropy": policy.entropy().mean(),
            "good_share": (advantage >= 0).float().mean(),
        }

    def stepped(self) -> None:
        """Nothing follows."""

    def gate(self, source: Source) -> Metrics:
        """Nothing: dreamt returns do not rank policies; the evaluation in the real environment does."""
        return {}

    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        return {}
