"""Dreamer 4's interactive dynamics (section 3.2): from noised latents and actions to clean latents, and agent tokens.

Shapes: B rows, T frames, L latents of the tokenizer, Z their channels, A action dimensions, D model channels.
Tokens of a frame, in order: action, signal level and step size, registers, latents, agent (if asked for).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log2
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from learners.draws import Source, randn_like
from learners.nn.cache import Cache
from learners.nn.transformer import Transformer, TransformerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicsNetConfig:
    """Signal levels are i / k_max for i < k_max; step sizes are 1, 1/2, ..., 1 / k_max."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    registers: int = 8
    packing: int = 2  # latents of the tokenizer in one spatial token (512 x 16 -> 256 x 32 in the paper)
    k_max: int = 64
    context_signal: float = 0.9  # past frames are noised by 0.1: the paper's "tau_ctx = 0.1" read as noise, not signal
    tasks: int = 1


class Noise(NamedTuple):
    """What each frame is told about its noise; both (B, T), long."""

    level: Tensor  # signal level tau = level / k_max
    step: Tensor  # step size d = 1 / 2**step


class Prediction(NamedTuple):
    z: Tensor  # (B, T, L, Z): the clean latents
    h: Tensor | None  # (B, T, D): the agent token's output


class Dynamics(nn.Module):
    """Predicts clean latents from noised ones (x-prediction); latents go in and out in the tokenizer's own layout."""

    mean: Tensor
    scale: Tensor
    fitted: Tensor
    agent_mask: Tensor

    def __init__(self, config: DynamicsNetConfig, latents: int, channels: int, actions: int) -> None:
        super().__init__()
        if latents % config.packing:
            raise ValueError(f"{latents} latents cannot be packed by {config.packing}")
        self.config = config
        self.spatial = latents // config.packing
        self.finest = int(log2(config.k_max))
        if 2**self.finest != config.k_max:
            raise ValueError(f"k_max must be a power of two, not {config.k_max}")
        # The level at which past frames are given, on the grid, so that the label says exactly what was done to them.
        self.context_level = int(config.context_signal * config.k_max)
        dim = config.transformer.dim
        self.action_in = nn.Linear(actions, dim)
        self.action_base = nn.Parameter(0.5 * torch.randn(dim))
        self.level_in = nn.Embedding(config.k_max, dim // 2)
        self.step_in = nn.Embedding(self.finest + 1, dim - dim // 2)
        self.registers = nn.Parameter(0.5 * torch.randn(config.registers, dim))
        self.position = nn.Parameter(0.5 * torch.randn(self.spatial, dim))
        self.task_in = nn.Embedding(config.tasks, dim)
        self.z_in = nn.Linear(channels * config.packing, dim)
        self.z_out = nn.Linear(dim, channels * config.packing)
        self.transformer = Transformer(config.transformer)
        self.register_buffer("mean", torch.zeros(latents, channels))
        self.register_buffer("scale", torch.ones(latents, channels))
        self.register_buffer("fitted", torch.tensor(False))
        world = 2 + config.registers + self.spatial
        self.register_buffer("agent_mask", agent_mask(world), persistent=False)

    def cache(self, batch: int, device: torch.device) -> Cache:
        return self.transformer.cache(batch, len(self.agent_mask), device)

    def standardise(self, z: Tensor) -> Tensor:
        """Tokenizer latents -> latents of zero mean and unit scale, which is what noise is mixed with."""
        return (z - self.mean) / self.scale

    def original(self, z: Tensor) -> Tensor:
        return z * self.scale + self.mean

    @torch.no_grad()
    def fit_standard(self, z: Tensor) -> None:
        """Take mean and scale from latents (N, L, Z)."""
        self.mean.copy_(z.mean(0))
        self.scale.copy_(z.std(0).clamp(min=1e-2))
        self.fitted.fill_(True)

    def forward(
        self,
        z_BTLZ: Tensor,
        noise: Noise,
        action: Tensor,
        labelled: Tensor,
        task: Tensor | None,
        cache: Cache | None = None,
    ) -> Prediction:
        """Standardised noised latents -> standardised clean latents.

        action (B, T, A) caused the frame of its block; `labelled` (B, T) is false where the action is unknown (video
        without actions, the first frame of an episode). `task` (B,) long adds the agent token; without it h is None.
        """
        z_in = rearrange(z_BTLZ, "b t (s p) z -> b t s (p z)", p=self.config.packing)
        batch, length = z_in.shape[:2]
        acted = self.action_base + self.action_in(action) * labelled[..., None]
        signal = torch.cat((self.level_in(noise.level), self.step_in(noise.step)), dim=-1)
        registers = self.registers.expand(batch, length, -1, -1)
        tokens = [acted[:, :, None], signal[:, :, None], registers, self.z_in(z_in) + self.position]
        if task is not None:
            tokens.append(self.task_in(task)[:, None, None].expand(-1, length, -1, -1))
        mask = None if task is None else self.agent_mask
        out = self.transformer(torch.cat(tokens, dim=2), mask, cache)
        start = 2 + self.config.registers
        z = self.z_out(out[:, :, start : start + self.spatial])
        z = rearrange(z, "b t s (p z) -> b t (s p) z", p=self.config.packing)
        return Prediction(z, None if task is None else out[:, :, -1])

    def context_noise(self, like: Tensor) -> Noise:
        """The label of past frames, for latents (B, T, ...): nearly clean, finest step."""
        shape, device = like.shape[:2], like.device
        level = torch.full(shape, self.context_level, dtype=torch.long, device=device)
        return Noise(level, torch.full_like(level, self.finest))

    def noised(self, z: Tensor, level: Tensor, generator: Source) -> Tensor:
        """(1 - tau) noise + tau z (equation 2)."""
        tau = (level / self.config.k_max)[..., None, None]
        return torch.lerp(randn_like(z, generator), z, tau)


def agent_mask(world: int) -> Tensor:
    """World tokens see world tokens; the agent token, the last, sees all and is seen by itself alone.

    So a task can move the world only through the actions that it makes the agent take.
    """
    mask = torch.ones(world + 1, world + 1, dtype=torch.bool)
    mask[:world, world] = False
    return mask
