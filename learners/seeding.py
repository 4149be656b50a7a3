"""Random draws that depend on a key alone, never on what was drawn before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def generator(key: tuple[int, ...], device: torch.device) -> torch.Generator:
    """A fresh generator for `key`; neighbouring keys give unrelated draws."""
    return torch.Generator(device).manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """For what draws from torch's global state, as initial weights do: seeded inside, put back after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
