"""Actions in units that tokenizers work in: most of each dimension within [-1, 1], a gripper at -1 or +1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from replay.errors import BadInput

FLAT = 1e-6  # a dimension that varies less than this is left as wide as it is
QUANTILES = (0.01, 0.99)


class Normalizer(nn.Module):
    """Maps the 1% and 99% quantiles of each dimension to -1 and +1 (as pi0.5's policies do). Nothing is clipped: rarer
    actions lie outside.

    A gripper has two positions: what is above the middle between its extremes is +1, what is below is -1, and they come
    back as the medians of both sides.
    """

    low: Tensor  # (A,) what becomes -1
    high: Tensor  # (A,) what becomes +1
    ready: Tensor

    def __init__(self, action_dim: int, gripper: int | None = -1) -> None:
        """`gripper`: which dimension, counted as in a list; None if there is none."""
        super().__init__()
        if action_dim < 1 or (gripper is not None and not -action_dim <= gripper < action_dim):
            raise BadInput(f"There is no dimension {gripper} of {action_dim}.", "Give the gripper's, or none.")
        self.action_dim = action_dim
        self.gripper = None if gripper is None else gripper % action_dim
        self.register_buffer("low", -torch.ones(action_dim))
        self.register_buffer("high", torch.ones(action_dim))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    @property
    def arm(self) -> list[int]:
        """The dimensions that are no gripper."""
        return [d for d in range(self.action_dim) if d != self.gripper]

    @torch.no_grad()
    def fit(self, actions: Tensor) -> None:
        """(..., A). Raises BadInput for what is no finite action, or for none."""
        flat = actions.flatten(0, -2).double()
        if not len(flat) or flat.shape[-1] != self.action_dim or not flat.isfinite().all():
            raise BadInput(
                f"Actions of shape {tuple(actions.shape)} cannot be normalised to {self.action_dim} dimensions.",
                "Give some finite actions, with the dimension last.",
            )
        low, high = torch.quantile(flat, torch.tensor(QUANTILES, dtype=flat.dtype, device=flat.device), dim=0)
        flat_dims = high - low < FLAT
        high = torch.where(flat_dims, low + 2, high)
        if self.gripper is not None:
            low[self.gripper], high[self.gripper] = _positions(flat[:, self.gripper])
        self.low.copy_(low)
        self.high.copy_(high)
        self.ready.fill_(True)

    def forward(self, actions: Tensor) -> Tensor:
        """Environment units (..., A) -> normalised."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        found = (actions - middle) / torch.where(half == 0, 1.0, half)
        if self.gripper is None:
            return found
        closed = torch.where(actions[..., self.gripper] >= middle[self.gripper], 1.0, -1.0)
        columns = list(found.unbind(-1))
        columns[self.gripper] = closed.to(found.dtype)
        return torch.stack(columns, -1)

    def inverse(self, normalised: Tensor) -> Tensor:
        """Normalised (..., A) -> environment units. The gripper too is a straight line: in between stays in between."""
        return (self.low + self.high) / 2 + normalised * ((self.high - self.low) / 2)

    def lost(self, actions: Tensor) -> Tensor:
        """(..., A) in environment units -> (...): what the gripper is beyond its two positions; zeros without one."""
        if self.gripper is None:
            return torch.zeros_like(actions[..., 0])
        return (actions - self.inverse(self(actions)))[..., self.gripper]

    def as_json(self) -> dict[str, Any]:
        return {"low": self.low.tolist(), "high": self.high.tolist(), "gripper": self.gripper}

    def load_json(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError for what `as_json` did not write."""
        low, high = (torch.tensor([float(x) for x in state[name]]) for name in ("low", "high"))
        if not (low.shape == high.shape == self.low.shape) or state["gripper"] != self.gripper:
            raise ValueError("it is of another action space")
        if not (low.isfinite().all() and high.isfinite().all()):
            raise ValueError("its ranges are not finite")
        self.low.copy_(low)
        self.high.copy_(high)
        self.ready.fill_(True)


def _positions(gripper_N: Tensor) -> tuple[Tensor, Tensor]:
    """Open and closed, whichever is lower first."""
    middle = (gripper_N.min() + gripper_N.max()) / 2
    low, high = gripper_N[gripper_N < middle], gripper_N[gripper_N >= middle]
    return (low.median() if len(low) else middle), high.median()
