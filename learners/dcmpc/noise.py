"""Exponential noise in bulk, by which codes are drawn: on a CPU a large share of an update if drawn anew each time."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

POOL = 2**22  # numbers kept, 16 MiB
LARGEST = 2**20  # of one request that the pool serves


def exponential(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Exponential numbers of rate 1 on the generator's device, never zero.

    On a CPU, small requests are a stretch of one fixed pool from a random place on: each number of an update is
    independent of the others, while updates share the pool. Not to be written to.
    """
    if generator.device.type != "cpu":
        return torch.empty(shape, device=generator.device).exponential_(generator=generator).clamp_min_(1e-12)
    count = int(np.prod(shape))
    if count > LARGEST:
        return _drawn(count, int(torch.randint(2**62, (), generator=generator))).view(shape)
    place = int(torch.randint(POOL - count, (), generator=generator))
    return _pool()[place : place + count].view(shape)


@cache
def _pool() -> Tensor:
    return _drawn(POOL, seed=0)


def _drawn(count: int, seed: int) -> Tensor:
    """numpy's ziggurat takes a fifth of the time of torch's logarithms."""
    numbers = np.random.Generator(np.random.SFC64(seed)).standard_exponential(count, dtype=np.float32)
    return torch.from_numpy(np.maximum(numbers, 1e-12, out=numbers))
