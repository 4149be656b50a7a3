"""A gripper's part of a chunk as one small integer: which of the ways that grippers open and close.

Shapes: N chunks of T steps, M patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice

import torch
from torch import Tensor


def table(gripper_NT: Tensor, count: int) -> Tensor:
    """(count, T) of -1 and +1: what occurs, the most frequent first, then what did not, by the number of changes.

    A gripper that hesitates changes at other steps each time, so the training chunks alone do not show all that comes.
    If there are fewer than `count`, the first is repeated.
    """
    found, times = torch.unique(torch.where(gripper_NT >= 0, 1.0, -1.0), dim=0, return_counts=True)
    rows = found[torch.argsort(-times, stable=True)][:count]
    known = set(map(tuple, rows.tolist()))
    others = (row for row in _by_changes(gripper_NT.shape[1]) if row not in known)
    more = torch.tensor(list(islice(others, count - len(rows))), dtype=rows.dtype, device=rows.device)
    rows = torch.cat([rows, more.reshape(-1, rows.shape[1])])
    return torch.cat([rows, rows[:1].expand(count - len(rows), -1)])


def nearest_pattern(gripper_NT: Tensor, patterns_MT: Tensor) -> Tensor:
    """(N,) int64: fewest steps that differ; the more frequent one where there are several."""
    agreeing = torch.where(gripper_NT >= 0, 1.0, -1.0) @ patterns_MT.T
    return agreeing.argmax(1)


def _by_changes(steps: int) -> Iterator[tuple[float, ...]]:
    """All of them, the simplest first: never a change, one, two, ..."""
    for changes in range(steps):
        for places in combinations(range(1, steps), changes):
            for first in (-1.0, 1.0):
                yield tuple(first * (-1) ** sum(step >= place for place in places) for step in range(steps))
