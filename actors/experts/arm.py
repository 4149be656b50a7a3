"""A robot's arm as a few numbers: where the hand will be after a command, and what its fingers hold.

The lags were measured on LIBERO's Panda under OSC_POSE at 20 Hz, where they predict the hand's displacement in the next
step with R2 0.98 to 0.99 on each axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from actors.experts.libero import FINGER_SPEEDS, HAND, SCALE, THING, UNFOLDED

LAG, REACH = 0.62, 0.094  # displacement of a step = LAG * the last one's + REACH * what was commanded
FINGER_LAG, FINGER_REACH = 0.65, 0.0034  # m: the same of the opening between the fingers
FINGERS, WIDEST = slice(7, 9), 0.08  # m of each finger, of opposite signs; m between them
NEAR = np.full(3, 0.06)  # m along each axis from the hand to what it may hold
STILL = 5e-4  # m a step: fingers that are stopped by what is between them
FPS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The hand, and one thing that it may hold. Lengths in m, speeds in m a step."""

    hand: np.ndarray  # (3,)
    speed: np.ndarray  # (3,)
    opening: float
    closing: float  # speed of the opening
    thing: np.ndarray  # (3,)
    width: float  # of the thing between the fingers
    grip: np.ndarray = field(default_factory=NEAR.copy)  # (3,) how far off it is between them
    held: bool = False

    def moved(self, action: np.ndarray) -> Arm:
        """After a step with this action (7,): motion in units of SCALE, rotation, gripper (above 0 closes)."""
        speed = LAG * self.speed + REACH * SCALE * np.clip(action[:3], -1.0, 1.0)
        closing = FINGER_LAG * self.closing - FINGER_REACH * (1.0 if action[6] > 0 else -1.0)
        least = self.width if self.held or self._is_between() else 0.0
        opening = float(np.clip(self.opening + closing, least, WIDEST))
        thing = self.thing + speed if self.held else self.thing
        after = replace(self, hand=self.hand + speed, speed=speed, thing=thing)
        held = (self.held or self._is_between()) and action[6] > 0 and opening <= self.width + STILL
        return replace(after, opening=opening, closing=opening - self.opening, held=held)

    def _is_between(self) -> bool:
        return bool(np.all(np.abs(self.thing - self.hand) < self.grip))


def from_state(state: np.ndarray, executed: np.ndarray) -> Arm:
    """The arm in a state (S,), as actors/experts/libero.py has its layout, after the last actions (k, 7), which tell
    how fast the hand is. How wide the thing is, nobody knows unless it is held."""
    opening = float(state[7] - state[8])
    finger_speed = float(state[9] - state[10]) / FPS
    speed = np.zeros(3)
    for action in executed:
        speed = LAG * speed + REACH * SCALE * np.clip(action[:3], -1.0, 1.0)
    held = opening < UNFOLDED and abs(finger_speed) < STILL and bool(np.all(np.abs(state[THING] - state[HAND]) < NEAR))
    return Arm(
        hand=state[HAND].copy(),
        speed=speed,
        opening=opening,
        closing=finger_speed,
        thing=state[THING].copy(),
        width=opening if held else 0.01,
        held=held,
    )


def into_state(arm: Arm, state: np.ndarray) -> np.ndarray:
    """A copy of the state with the arm's values."""
    after = state.copy()
    after[HAND], after[THING] = arm.hand, arm.thing
    after[FINGERS] = 0.5 * arm.opening, -0.5 * arm.opening
    after[FINGER_SPEEDS] = 0.5 * arm.closing * FPS, -0.5 * arm.closing * FPS
    return after
