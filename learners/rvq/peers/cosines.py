"""The first cosines of each dimension, each rounded to a few bits.

Shapes: N chunks of T steps, A numbers of an action, k cosines kept.
"""

from __future__ import annotations

import numpy as np

from learners.rvq.peers.coded import Coded
from learners.rvq.transform import dct, inverse_dct

AS_IT_IS = 32  # bits of a float that is not rounded


def keep(train_NTA: np.ndarray, test_NTA: np.ndarray, count: int, bits: int) -> Coded:
    """k A b bits: each coefficient in 2^b even steps over the range that it has in the training chunks."""
    size = test_NTA.shape[1]
    coefficients = dct(test_NTA)[:, :count]
    if bits < AS_IT_IS:
        known = dct(train_NTA)[:, :count]
        coefficients = _rounded(coefficients, known.min(0), known.max(0), 2**bits - 1)
    padded = np.pad(coefficients, ((0, 0), (0, size - count), (0, 0)))
    tokens = count * test_NTA.shape[2]
    return Coded(bits=tokens * bits, tokens=tokens, found=inverse_dct(padded))


def _rounded(values: np.ndarray, low: np.ndarray, high: np.ndarray, steps: int) -> np.ndarray:
    width = np.where(high > low, high - low, 1.0)
    level = np.clip(np.rint((values - low) / width * steps), 0, steps)
    return low + level / steps * width
