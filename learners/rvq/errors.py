"""How far reconstructions are off, and what that is of all there is: pure functions on arrays.

Shapes: N chunks of T steps, A numbers of an action, one of which may be a gripper's. All errors are in normalised
units but "raw", which is in the environment's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FLOAT_BITS = 32  # of each number of a chunk as it comes


class Errors(NamedTuple):
    """By chunk (N,): mean squared errors over all its numbers, over the arm's alone, over the gripper's alone."""

    norm: np.ndarray  # against what was coded: a gripper at -1 or +1
    arm: np.ndarray
    gripper: np.ndarray  # against the gripper as it was; zeros without one
    raw: np.ndarray  # against the actions as they were


def squared(
    truth_NTA: np.ndarray,
    found_NTA: np.ndarray,
    scale_A: np.ndarray,
    gripper: int | None,
    lost_NT: np.ndarray | float = 0.0,
) -> Errors:
    """`truth` and `found` normalised; `scale` (A,): environment units of one normalised unit; `lost`: what normalising
    took off the gripper, in environment units."""
    off = np.asarray(found_NTA, np.float64) - truth_NTA
    square, raw = np.square(off), np.square(off) * np.square(scale_A)
    norm = square.mean((1, 2))
    if gripper is None:
        return Errors(norm, norm, np.zeros(len(square)), raw.mean((1, 2)))
    width = scale_A[gripper]
    raw[..., gripper] = np.square(off[..., gripper] * width - lost_NT)
    closed = np.square(off[..., gripper] - lost_NT / (width or 1.0)).mean(1)
    return Errors(norm, np.delete(square, gripper, -1).mean((1, 2)), closed, raw.mean((1, 2)))


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
