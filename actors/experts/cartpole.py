"""Cart and pole of the DeepMind Control Suite: swing up by energy, balance by a linear regulator.

State: cart position (m), cos and sin of the pole's angle from upright, cart velocity (m/s), angular velocity (rad/s).
The action pushes the cart with 10 N at full scale.
"""

from __future__ import annotations

import numpy as np

GRAVITY, POLE, MIDDLE = 9.81, 0.1, 0.5  # m/s^2, kg, m from the hinge to the pole's middle
INERTIA = POLE * MIDDLE**2 * 4 / 3  # of a thin rod about its end, kg m^2
# Discrete LQR of the linearised plant held for 0.08 s, Q = diag(1, 1, .1, .1), R = 1, over (position, angle, velocity,
# spin); it is also stable for decisions of 0.01 s and 0.16 s.
GAIN = np.array([0.565, 4.52, 0.654, 1.166])
CATCH = 0.6  # rad from upright where the regulator takes over
PUMP, LIMIT = 40.0, 0.9  # gain of the energy pump and its largest push
CENTRE, DAMP = 0.45, 0.27  # pull of the cart to the middle of the track, per m and per m/s


def balance(state: np.ndarray) -> np.ndarray:
    """(..., 5) -> (..., 1)."""
    position, angle, velocity, spin = _parts(state)
    return np.clip(np.stack([position, angle, velocity, spin], axis=-1) @ GAIN, -1.0, 1.0)[..., None]


def swingup(state: np.ndarray) -> np.ndarray:
    """(..., 5) -> (..., 1). Energy shaping (Astrom and Furuta 2000, eq. 8) with a pull to the middle of the track."""
    position, angle, velocity, spin = _parts(state)
    energy = 0.5 * INERTIA * spin**2 + POLE * GRAVITY * MIDDLE * (np.cos(angle) - 1.0)  # 0 J when upright and at rest
    pump = PUMP * energy * spin * np.cos(angle)
    push = np.clip(pump, -LIMIT, LIMIT) - CENTRE * position - DAMP * velocity
    caught = np.abs(angle) < CATCH
    return np.where(caught[..., None], balance(state), np.clip(push, -1.0, 1.0)[..., None])


def _parts(state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Position, angle from upright in (-pi, pi], velocity, spin: each (...)."""
    position, cos, sin, velocity, spin = np.moveaxis(np.asarray(state, np.float64), -1, 0)
    return position, np.arctan2(sin, cos), velocity, spin
