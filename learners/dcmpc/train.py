"""Learning DC-MPC: one update of world model, critics and, every other time, the policy, from one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from learners.dcmpc.batches import Update, draw
from learners.dcmpc.critics import Critics
from learners.dcmpc.losses import Noise, critic_loss, policy_loss, targets_of, unroll, weights
from learners.dcmpc.noise import exponential
from learners.dcmpc.policy import Policy
from learners.dcmpc.prediction import PredictionConfig, predict
from learners.dcmpc.targets import Targets, n_step
from learners.dcmpc.world import World
from learners.nn.fsq import Quantised
from learners.system import Metrics, OptimConfig
from replay.errors import BadInput
from replay.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Keys that say so bring back defects of the released code, to match its curves."""

    batch_size: int = 512
    horizon: int = 5  # transitions that the world model is unrolled for
    rho: float = 0.9  # weight of each transition over the one before
    stochastic: bool = True  # unroll through drawn codes; else through expected ones
    consistency: float = 1.0  # weight of the next codes
    reward: float = 1.0  # weight of the rewards
    gamma: float = 0.99
    n_step: int = 1
    tau: float = 0.005  # share of the way that targets go
    smoothing: float = 0.2  # deviation of the noise on the target policy's actions
    smoothing_clip: float = 0.3
    policy_every: int = 2  # updates
    across: bool = (
        True  # stretches may begin up to an episode's end; else those near it, terminal ones too, are not met
    )
    bootstrap_gamma_bug: bool = False  # with n_step=1 the value of the next state is not discounted
    nstep_done_bug: bool = False  # with n_step>1 the last reward of an episode is dropped, terminal states have a value
    mask_done_bug: bool = False  # the world model does not learn from the last transition of an episode
    prediction: PredictionConfig = field(default_factory=PredictionConfig)

    def __post_init__(self) -> None:
        if min(self.batch_size, self.horizon, self.n_step, self.policy_every) < 1:
            raise BadInput(
                "Nothing can be learnt from that.", "Give batch_size, horizon, n_step and policy_every from 1."
            )
        if not (0 < self.tau <= 1 and 0 <= self.gamma <= 1 and 0 < self.rho <= 1):
            raise BadInput(f"tau {self.tau}, gamma {self.gamma}, rho {self.rho} are no shares.", "Give them up to 1.")

    @property
    def transitions(self) -> int:
        """Of a stretch."""
        return max(self.horizon, self.n_step)


class DCMPCObjective:
    def __init__(
        self,
        config: TrainConfig,
        world: World,
        critics: Critics,
        policy: Policy,
        targets: Targets,
        optim: Mapping[str, OptimConfig],
        observation: str,
    ) -> None:
        self.config, self.optim, self.observation = config, optim, observation
        self.world, self.critics, self.policy, self.targets = world, critics, policy, targets
        self._trained = nn.ModuleDict({"world": world, "critics": critics, "policy": policy})
        self._improved = False  # by the last update

    def trained(self) -> nn.ModuleDict:
        return self._trained

    def prepare(self, source: Source) -> None:
        """Nothing has to be known before the first update."""

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Update:
        config = self.config
        drawn = draw(source, key, config.batch_size, config.transitions, self.observation, across=config.across)
        seen = drawn.seen
        kept = seen.inside & ~seen.last if config.mask_done_bug else seen.inside
        return Update(
            observation=drawn.observation,
            action=drawn.action,
            reward=seen.reward,
            weight=weights(kept[: config.horizon], config.rho),
            returns=n_step(seen, config.n_step, config.gamma, config.bootstrap_gamma_bug, config.nstep_done_bug),
            whole=seen.inside[0].float(),
            improves=(key[2] + 1) % config.policy_every == 0,
        )

    def loss(self, batch: Update, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        noise = self._draw(batch, generator)
        goal, z_next = targets_of(self.world, batch)
        model, z, metrics = self._world_loss(batch, goal, noise.codes_GBKD)
        value, mean = critic_loss(
            self.critics, self.targets, z, batch.action[0], z_next, batch.returns, batch.whole, noise
        )
        loss, metrics = model + value, metrics | {"critic": value.detach(), "value": mean}
        self._improved = batch.improves
        if noise.critics_M is not None:
            acting = policy_loss(self.critics, self.policy, z, noise.critics_M)
            loss, metrics = loss + acting, metrics | {"policy": acting.detach()}
        return loss, metrics

    def stepped(self) -> None:
        """Targets follow what was updated."""
        self.targets.follow_critics(self.critics)
        if self._improved:
            self.targets.follow_policy(self.policy)

    @torch.no_grad()
    def gate(self, source: Source) -> Metrics:
        """Held-out figures of the world model; {} while no held-out episode is long enough. See prediction.py."""
        found = predict(self.config.prediction, self.world, source, self.observation)
        return found.metrics() if found else {}

    @torch.no_grad()
    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        found = predict(self.config.prediction, self.world, source, self.observation)
        return found.arrays() if found else {}

    def _world_loss(
        self, batch: Update, goal: Quantised, noise_GBKD: Tensor | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(loss, first states (B, Z) without gradients, metrics)."""
        config, world, h = self.config, self.world, self.config.horizon
        raw = world.raw(batch.observation[0])
        z = world.encoding(raw).code.flatten(1)
        found = unroll(world, z, batch.action[:h], goal, noise_GBKD)
        wrong = (batch.weight * (found.reward - batch.reward[:h]).square()).mean()
        model = config.consistency * (batch.weight * found.error).mean() + config.reward * wrong
        metrics = {"consistency": found.error.detach().mean(), "reward": wrong.detach(), "model": model.detach()}
        return model + world.encoding.loss(raw), z.detach(), metrics

    @torch.compiler.disable  # a generator breaks a graph
    def _draw(self, batch: Update, generator: torch.Generator) -> Noise:
        config, action = self.config, batch.action[0]
        codes = self._codes_noise(len(action), generator)
        smoothing = torch.randn(action.shape, generator=generator, device=action.device) * config.smoothing
        return Noise(
            codes_GBKD=codes,
            smoothing_BA=smoothing.clamp(-config.smoothing_clip, config.smoothing_clip),
            targets_M=self.targets.critics.draw(generator),
            critics_M=self.critics.draw(generator) if batch.improves else None,
        )

    def _codes_noise(self, rows: int, generator: torch.Generator) -> Tensor | None:
        world = self.world.config
        if world.dynamics == "mse" or not self.config.stochastic:
            return None
        return exponential((self.config.horizon - 1, rows, self.world.encoding.count, world.latent_dim), generator)
