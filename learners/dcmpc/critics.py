"""The critics: an ensemble that is computed at once, of which a few are drawn for each estimate (REDQ).

Shapes: N critics, M of them drawn, B rows, Z numbers of a state, A of an action.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from learners.nn.mlp import Ensemble
from learners.system import OptimConfig
from replay.errors import BadInput

OPTIM = OptimConfig(lr=3e-4, betas=(0.9, 0.999), weight_decay=0.0, warmup_steps=0, decay=0.0, clip_norm=20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticsConfig:
    optim: OptimConfig = field(default_factory=lambda: OPTIM, metadata={"flatten": True})
    members: int = 5
    drawn: int = 2  # critics of one estimate (Chen et al. 2021, arXiv 2101.05982)
    hidden: tuple[int, ...] = (512, 512)

    def __post_init__(self) -> None:
        if not 1 <= self.drawn <= self.members:
            raise BadInput(f"{self.drawn} of {self.members} critics cannot be drawn.", "Set critics.drawn from 1 up.")


class Critics(nn.Module):
    def __init__(self, config: CriticsConfig, width: int, actions: int) -> None:
        super().__init__()
        self.config = config
        self.nets = Ensemble(config.members, width + actions, config.hidden, 1)

    def forward(self, z: Tensor, a: Tensor, members: Tensor | None = None, frozen: bool = False) -> Tensor:
        """States (B, Z), actions (B, A) -> values (N, B), or (M, B) of the critics that `members` (M,) names.

        `frozen`: gradients reach the actions and states, not the weights.
        """
        return self.nets(torch.cat((z, a), -1), members, frozen)[..., 0]

    def draw(self, generator: torch.Generator | None) -> Tensor:
        """The numbers (M,) of a few critics, without repetition."""
        device = next(self.parameters()).device
        return torch.randperm(self.config.members, generator=generator, device=device)[: self.config.drawn]

    def mean(self, z: Tensor, a: Tensor, members: Tensor | None = None, frozen: bool = False) -> Tensor:
        """The mean over critics, (B,): for acting and for improving the policy."""
        return self(z, a, members, frozen).mean(0)

    def lowest(self, z: Tensor, a: Tensor, members: Tensor | None = None) -> Tensor:
        """The smallest over critics, (B,): for targets, which would grow too large otherwise."""
        return self(z, a, members).amin(0)
