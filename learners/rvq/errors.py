"""How far reconstructions are off, and what that is of all there is: pure functions on arrays.

Shapes: N chunks of T steps, A numbers of an action, one of which may be a gripper's. "norm" is in normalised units,
"raw" in the environment's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FLOAT_BITS = 32  # of each number of a chunk as it comes


class Errors(NamedTuple):
    """By chunk (N,): mean squared errors over all its numbers, over the arm's alone, over the gripper's alone."""

    norm: np.ndarray
    arm: np.ndarray
    gripper: np.ndarray  # zeros without a gripper
    raw: np.ndarray


def squared(truth_NTA: np.ndarray, found_NTA: np.ndarray, scale_A: np.ndarray, gripper: int | None) -> Errors:
    """`truth` and `found` normalised; `scale` (A,): environment units of one normalised unit."""
    square = np.square(np.asarray(found_NTA, np.float64) - truth_NTA)
    arm = np.delete(square, gripper, -1) if gripper is not None else square
    closed = square[..., gripper].mean(1) if gripper is not None else np.zeros(len(square))
    return Errors(square.mean((1, 2)), arm.mean((1, 2)), closed, (square * np.square(scale_A)).mean((1, 2)))


def r2(error: float, truth_NTA: np.ndarray) -> float:
    """The share of the variance (of each dimension about its mean) that is explained."""
    variance = np.asarray(truth_NTA, np.float64).var((0, 1)).mean()
    return float(1 - error / max(variance, 1e-12))


def sign_errors(truth_NTA: np.ndarray, found_NTA: np.ndarray, gripper: int | None) -> float:
    """The share of steps whose gripper would do the opposite."""
    if gripper is None:
        return 0.0
    return float(((truth_NTA[..., gripper] >= 0) != (found_NTA[..., gripper] >= 0)).mean())


def ratio(bits: float, steps: int, actions: int) -> float:
    """How many times fewer bits than the chunk's numbers as float32 take."""
    return steps * actions * FLOAT_BITS / bits
