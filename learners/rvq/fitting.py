"""Training a tokenizer in this process, without learners and stages: the same losses, the same optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from learners import optim
from learners.seeding import generator
from learners.system import OptimConfig
from replay.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How many updates there are is the stage's budget, or an argument of `fit`: 1500 of 128 chunks are 100 epochs of
    50 episodes."""

    batch_size: int = 128  # chunks
    lr: float = 2e-3
    warmup_steps: int = 50
    decay: float = 0.5  # the last share of the updates, in which the rate goes to nearly 0
    clip_norm: float = 1.0
    initial_chunks: int = 2048  # that the first codebooks are the k-means of

    def __post_init__(self) -> None:
        if min(self.batch_size, self.initial_chunks) < 1 or self.lr <= 0:
            raise BadInput(f"{self} trains nothing.", "Give batch_size and initial_chunks from 1, lr above 0.")

    @property
    def optim(self) -> OptimConfig:
        return OptimConfig(
            lr=self.lr,
            betas=(0.9, 0.99),
            weight_decay=0.0,
            warmup_steps=self.warmup_steps,
            decay=self.decay,
            clip_norm=self.clip_norm,
        )


def minimise(
    module: nn.Module,
    loss: Callable[[Tensor, torch.Generator], Tensor],
    data: Tensor,
    config: TrainConfig,
    updates: int,
    seed: int,
    stepped: Callable[[], None],
) -> None:
    """`updates` of the parameters of `module`, each on rows of `data` drawn by (seed, number); `stepped` after each."""
    module.train()
    optimiser = optim.build(config.optim, module)
    for number in range(updates):
        draw = generator((seed, number), data.device)
        rows = torch.randint(len(data), (config.batch_size,), generator=draw, device=data.device)
        optimiser.schedule(number, updates)
        loss(data[rows], draw).backward()
        if torch.isfinite(optimiser.clip()):
            optimiser.step()
            stepped()
        optimiser.zero_grad()
    module.eval()
