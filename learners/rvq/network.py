"""Encoder and decoder of a chunk: one vector for each of its steps, from the step and its neighbours.

Shapes: B chunks of T steps, I numbers in and O out, H inside.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Steps(nn.Module):
    """Convolutions over time, as many steps out as in, beside a straight line, so that fine detail need not squeeze
    through what is not linear: (B, T, I) -> (B, T, O)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, blocks: int = 1) -> None:
        super().__init__()
        self.straight = nn.Linear(inputs, outputs)
        self.enter = nn.Linear(3 * inputs, hidden)
        self.blocks = nn.ModuleList(Block(hidden) for _ in range(blocks))
        self.leave = nn.Linear(hidden, outputs)

    def forward(self, x_BTI: Tensor) -> Tensor:
        h = self.enter(neighbours(x_BTI))
        for block in self.blocks:
            h = block(h)
        return self.straight(x_BTI) + self.leave(nn.functional.gelu(h))


class Block(nn.Module):
    """h + conv1(gelu(conv3(gelu(h)))), (B, T, H)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.wide = nn.Linear(3 * hidden, hidden)
        self.mix = nn.Linear(hidden, hidden)

    def forward(self, h_BTH: Tensor) -> Tensor:
        return h_BTH + self.mix(nn.functional.gelu(self.wide(neighbours(nn.functional.gelu(h_BTH)))))


def neighbours(x_BTI: Tensor) -> Tensor:
    """(B, T, 3 I): each step between the one before and the one after, zeros beyond the ends. A linear map of it is a
    convolution of width 3, in half the time that torch's takes for so few steps."""
    padded = nn.functional.pad(x_BTI, (0, 0, 1, 1))
    return torch.cat([padded[:, :-2], x_BTI, padded[:, 2:]], -1)
