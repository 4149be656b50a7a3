"""A pendulum with a weak motor: pump energy until it reaches the top, then hold it there.

State: cos and sin of the angle from upright, angular velocity (rad/s). The action is a torque of 1 N m at full scale,
against 4.9 N m of gravity when the pole is level, so that several swings are needed.
"""

from __future__ import annotations

import numpy as np

TORQUE, INERTIA, DRAG = 4.905, 0.25, 0.1  # m g l in N m, m l^2 in kg m^2, of the hinge in N m s
CATCH = 0.35  # rad from upright where the regulator takes over
STIFFNESS, DAMPING = 12.0, 2.5  # full scale per rad and per rad/s


def swingup(state: np.ndarray) -> np.ndarray:
    """(..., 3) -> (..., 1). Energy shaping: torque along the spin while the energy is short of the top's."""
    cos, sin, spin = np.moveaxis(np.asarray(state, np.float64), -1, 0)
    angle = np.arctan2(sin, cos)
    energy = 0.5 * INERTIA * spin**2 + TORQUE * (cos - 1.0)  # 0 J when upright and at rest
    pump = np.where(spin >= 0, 1.0, -1.0) * np.clip(-4.0 * energy, -1.0, 1.0)
    hold = -STIFFNESS * angle - DAMPING * spin
    return np.clip(np.where(np.abs(angle) < CATCH, hold, pump), -1.0, 1.0)[..., None]
