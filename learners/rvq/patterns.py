"""A gripper's part of a chunk as one small integer: which of the ways that grippers open and close.

Shapes: N chunks of T steps, M patterns.
"""

from __future__ import annotations

import torch
from torch import Tensor


def most_frequent(gripper_NT: Tensor, count: int) -> Tensor:
    """(count, T) of -1 and +1: what occurs most, by frequency. If there are fewer, the first is repeated."""
    found, times = torch.unique(torch.where(gripper_NT >= 0, 1.0, -1.0), dim=0, return_counts=True)
    order = torch.argsort(-times, stable=True)[:count]
    return torch.cat([found[order], found[order[:1]].expand(count - len(order), -1)])


def nearest_pattern(gripper_NT: Tensor, patterns_MT: Tensor) -> Tensor:
    """(N,) int64: fewest steps that differ; the more frequent one where there are several."""
    agreeing = torch.where(gripper_NT >= 0, 1.0, -1.0) @ patterns_MT.T
    return agreeing.argmax(1)
