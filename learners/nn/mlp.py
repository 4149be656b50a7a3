"""Multilayer perceptrons of LayerNorm and Mish layers, alone and as ensembles whose members are computed at once.

Shapes: N members, B rows, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learners.nn.mish import mish


class NormedLinear(nn.Linear):
    """Linear -> LayerNorm -> Mish."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return mish(self.norm(super().forward(x)))


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """(..., inputs) -> (..., outputs): a NormedLinear of each hidden width, and a plain Linear."""
    widths = [inputs, *hidden]
    layers = [NormedLinear(i, o) for i, o in pairwise(widths)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


class Ensemble(nn.Module):
    """As many networks of `mlp` as `members`, of one shape, each with its own weights."""

    def __init__(self, members: int, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.members = members
        widths = [inputs, *hidden, outputs]
        self.layers = nn.ModuleList(
            _Layer(members, i, o, normed=n < len(hidden)) for n, (i, o) in enumerate(pairwise(widths))
        )

    def forward(self, x_BI: Tensor, members: Tensor | None = None, frozen: bool = False) -> Tensor:
        """(B, I) -> (N, B, O) of all members, or of those whose numbers `members` (M,) names: (M, B, O).

        `frozen`: gradients reach the inputs, not the weights.
        """
        count = self.members if members is None else len(members)
        x = x_BI.expand(count, *x_BI.shape)
        for layer in self.layers:
            x = layer(x, members, frozen)
        return x


class _Layer(nn.Module):
    def __init__(self, members: int, inputs: int, outputs: int, normed: bool) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as nn.Linear begins
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))
        self.normed = normed
        if normed:
            self.gain = nn.Parameter(torch.ones(members, 1, outputs))
            self.shift = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor, members: Tensor | None, frozen: bool) -> Tensor:
        names = ("weight", "bias", "gain", "shift") if self.normed else ("weight", "bias")
        own = [getattr(self, name) for name in names]
        if frozen:
            own = [p.detach() for p in own]
        if members is not None:
            own = [p[members] for p in own]
        x = torch.baddbmm(own[1], x, own[0])
        if self.normed:
            x = mish(torch.addcmul(own[3], F.layer_norm(x, x.shape[-1:]), own[2]))
        return x
