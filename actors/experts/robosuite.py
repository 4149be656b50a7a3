"""A robot's arm that lifts a cube, or puts it on another, from the simulator's state (see libero.py for its layout)."""

from __future__ import annotations

import numpy as np

from actors.experts.libero import CLOSE, RISE, PickPlace, motion, reach

stack = PickPlace(drop=0.055)  # the lower cube is 5 cm high, the upper one 4 cm


def lift(state: np.ndarray) -> np.ndarray:
    """(..., S) -> (..., 7)."""
    rows = np.asarray(state, np.float64).reshape(-1, state.shape[-1])
    actions = [motion([0, 0, RISE], CLOSE) if (action := reach(row, 0.0, 0.0)) is None else action for row in rows]
    return np.stack(actions).reshape(*state.shape[:-1], 7)
