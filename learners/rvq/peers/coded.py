"""What comes out of a peer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Coded(NamedTuple):
    bits: float  # of a chunk, on average
    tokens: float
    found: np.ndarray  # (N, T, A) reconstructions, normalised
