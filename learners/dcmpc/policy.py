"""The policy network: what the planner starts from, and who acts where there is no planner.

Shapes: Z numbers of a state, A of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from learners.nn.mlp import mlp


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    hidden: tuple[int, ...] = (512, 512)


class Policy(nn.Module):
    def __init__(self, config: PolicyConfig, width: int, actions: int) -> None:
        super().__init__()
        self.net = mlp(width, config.hidden, actions)

    def forward(self, z: Tensor) -> Tensor:
        """States (..., Z) -> actions (..., A) in [-1, 1]."""
        return torch.tanh(self.net(z))
