"""A mass on a plane, pulled to the middle: proportional-derivative control, one axis an actuator.

State: position x, y (m), velocity x, y (m/s).
"""

from __future__ import annotations

import numpy as np

STIFFNESS, DAMPING = 20.0, 4.0  # full scale per m and per m/s


def easy(state: np.ndarray) -> np.ndarray:
    """(..., 4) -> (..., 2)."""
    position, velocity = np.split(np.asarray(state, np.float64), 2, axis=-1)
    return np.clip(-STIFFNESS * position - DAMPING * velocity, -1.0, 1.0)
