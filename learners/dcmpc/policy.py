"""The policy network: what the planner starts from, and who acts where there is no planner.

Shapes: Z numbers of a state, A of an action.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from learners.nn.mlp import mlp
from learners.system import OptimConfig

OPTIM = OptimConfig(lr=3e-4, betas=(0.9, 0.999), weight_decay=0.0, warmup_steps=0, decay=0.0, clip_norm=20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    optim: OptimConfig = field(default_factory=lambda: OPTIM, metadata={"flatten": True})
    hidden: tuple[int, ...] = (512, 512)


class Policy(nn.Module):
    def __init__(self, config: PolicyConfig, width: int, actions: int) -> None:
        super().__init__()
        self.net = mlp(width, config.hidden, actions)

    def forward(self, z: Tensor) -> Tensor:
        """States (..., Z) -> actions (..., A) in [-1, 1]."""
        return torch.tanh(self.net(z))
