"""FAST (Pertsch et al. 2025, arXiv 2501.09747): cosines over time, rounded, low frequencies first, byte pair encoded.

Fitted here, to the same chunks as everything else. Unlike the published one it does not split sequences as text is
split, so it needs rather fewer tokens; its reconstructions are the same.

Shapes: N chunks of T steps, A numbers of an action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from learners.rvq.patterns import nearest_pattern, table
from learners.rvq.peers.byte_pairs import BytePairs
from learners.rvq.peers.coded import Coded
from learners.rvq.transform import dct, inverse_dct

VOCABULARY = 1024
FITTED_ROWS = 2000  # chunks that pairs are counted in, at the most


@dataclass(frozen=True, slots=True)
class Fast:
    scale: float  # steps of a coefficient per normalised unit
    low: int  # what symbol 0 stands for
    pairs: BytePairs

    @staticmethod
    def fit(train_NTA: np.ndarray, scale: float, vocabulary: int = VOCABULARY) -> Fast:
        rounded = _rounded(train_NTA, scale)
        low, high = int(rounded.min()), int(rounded.max())
        rows = rounded[np.linspace(0, len(rounded) - 1, min(FITTED_ROWS, len(rounded))).astype(int)]
        return Fast(scale, low, BytePairs.fit(rows - low, high - low + 1, vocabulary))

    def code(self, test_NTA: np.ndarray) -> Coded:
        """Every token takes the bits of the whole vocabulary. Coefficients beyond those of the training chunks are
        clipped, which the published one cannot code at all."""
        clipped = np.clip(_rounded(test_NTA, self.scale) - self.low, 0, self.pairs.alphabet - 1)
        tokens = float(np.mean([len(symbols) for symbols in self.pairs.encode(clipped)]))
        coefficients = (clipped + self.low).reshape(test_NTA.shape) / self.scale
        bits = tokens * math.ceil(math.log2(self.pairs.vocabulary))
        return Coded(bits=bits, tokens=tokens, found=inverse_dct(coefficients))


def _rounded(x_NTA: np.ndarray, scale: float) -> np.ndarray:
    """(N, T A) int64, by frequency, then by dimension."""
    return np.rint(dct(x_NTA) * scale).astype(np.int64).reshape(len(x_NTA), -1)


def apart(
    train_NTA: np.ndarray, test_NTA: np.ndarray, scale: float, vocabulary: int, gripper: int, patterns: int
) -> Coded:
    """A stronger peer than was published: the arm by FAST, the gripper as one of `patterns` of the training chunks."""
    arm = Fast.fit(np.delete(train_NTA, gripper, -1), scale, vocabulary).code(np.delete(test_NTA, gripper, -1))
    known, asked = (torch.from_numpy(x[..., gripper]).float() for x in (train_NTA, test_NTA))
    rows = table(known, patterns)
    closed = rows[nearest_pattern(asked, rows)].numpy()
    found = np.insert(arm.found, gripper, closed, -1)
    return Coded(bits=arm.bits + math.ceil(math.log2(patterns)), tokens=arm.tokens + 1, found=found)
