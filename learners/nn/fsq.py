"""Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505): a code is a few channels of a few levels each.

Shapes: C channels of a code, D codes side by side, K = product of the levels. Channels come in front of the codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Quantised(NamedTuple):
    code: Tensor  # (..., C, D)
    indices: Tensor | None  # (..., D) int64 in [0, K); None where there are no discrete codes


class FSQ(nn.Module):
    """tanh bounds each channel to its levels, rounding picks one, its gradient is passed straight through.

    Of L levels, an odd L gives codes i / (L // 2), i = -(L // 2) .. L // 2; an even L lacks the topmost one. The index
    counts the levels of the first channel fastest. The codebook is implicit: nothing of it is learnt.
    """

    codebook: Tensor  # (K, C): the codes by index
    reach: Tensor
    offset: Tensor
    shift: Tensor
    steps: Tensor  # from the middle to the outermost level
    basis: Tensor

    def __init__(self, levels: Sequence[int], slack: float = 1e-3) -> None:
        """`slack`: how far tanh reaches beyond the outermost levels, so that these are met at finite inputs."""
        super().__init__()
        self.levels = tuple(levels)
        count = torch.tensor(self.levels)[:, None]
        reach = (count - 1) * (1 + slack) / 2
        offset = (1 - count % 2) / 2
        self._keep("reach", reach)
        self._keep("offset", offset)
        self._keep("shift", torch.atanh(offset / reach))
        self._keep("steps", (count // 2).float())
        self._keep("basis", torch.tensor([math.prod(self.levels[:i]) for i in range(len(levels))]).float()[:, None])
        self._keep("codebook", self.decode(torch.arange(math.prod(self.levels))).T.contiguous())

    def forward(self, x: Tensor) -> Quantised:
        """Anything (..., C, D) -> the codes that it rounds to."""
        # tanh(y) = 2 sigmoid(2y) - 1, of which torch is several times as fast on a CPU.
        bounded = torch.sigmoid(2 * (x + self.shift)) * (2 * self.reach) - (self.reach + self.offset)
        level = bounded.detach().round()
        code = level / self.steps
        if bounded.requires_grad:
            code = code + (bounded - bounded.detach()) / self.steps
        return Quantised(code, self._index(level))

    def index(self, code: Tensor) -> Tensor:
        """Codes (..., C, D) -> indices (..., D)."""
        return self._index((code * self.steps).round())

    def decode(self, index: Tensor) -> Tensor:
        """Indices (..., D) -> codes (..., C, D)."""
        levels = torch.tensor(self.levels, device=index.device)[:, None]
        level = index[..., None, :] // self.basis.long() % levels
        return (level - self.steps) / self.steps

    def _index(self, level: Tensor) -> Tensor:
        return ((level + self.steps) * self.basis).sum(-2).long()

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)  # follows from the levels
