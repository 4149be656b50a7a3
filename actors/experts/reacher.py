"""A two-link arm that reaches for a target: inverse kinematics, then proportional-derivative control of the joints.

State: shoulder and wrist angles (rad), the vector from finger to target (m), joint velocities (rad/s).
"""

from __future__ import annotations

import numpy as np

LINK = 0.12  # m, both links
STIFFNESS, DAMPING = 0.8, 0.05  # full scale per rad and per rad/s; the hinges damp as well


def reach(state: np.ndarray) -> np.ndarray:
    """(..., 6) -> (..., 2)."""
    shoulder, wrist, to_x, to_y, *velocity = np.moveaxis(np.asarray(state, np.float64), -1, 0)
    x = LINK * (np.cos(shoulder) + np.cos(shoulder + wrist)) + to_x
    y = LINK * (np.sin(shoulder) + np.sin(shoulder + wrist)) + to_y
    goal_shoulder, goal_wrist = _inverse(x, y, bend=np.where(wrist < 0, -1.0, 1.0))
    turn = np.remainder(goal_shoulder - shoulder + np.pi, 2 * np.pi) - np.pi  # the short way round
    error = np.stack([turn, goal_wrist - wrist], axis=-1)  # the wrist is limited, so it never wraps
    return np.clip(STIFFNESS * error - DAMPING * np.stack(velocity, axis=-1), -1.0, 1.0)


def _inverse(x: np.ndarray, y: np.ndarray, bend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shoulder and wrist angles that put the finger at (x, y), with the elbow on the side `bend` (+1 or -1)."""
    cos = (x**2 + y**2) / (2 * LINK**2) - 1.0
    wrist = bend * np.arccos(np.clip(cos, -1.0, 1.0))
    return np.arctan2(y, x) - wrist / 2, wrist  # links of equal length share the bend equally
