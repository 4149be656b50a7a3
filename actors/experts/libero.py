"""A robot's arm that picks an object up and puts it down elsewhere, from the simulator's state; rotation is never used.

State, as actors/hosting/guests/arm.py has it: position of the end effector (m) at 0, both fingers (m) at 7 and their
speed (m/s) at 9, position of the object at 18, of its goal at 25. The decision depends on the present state alone, so
that the arm tries again after it lost an object, and goes on from wherever a disturbance left it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SCALE, GAIN = 0.05, 2.0  # m of motion at full scale; full scale for a distance of SCALE / GAIN
OPEN, CLOSE = -1.0, 1.0
HAND, FINGER_SPEEDS, THING, GOAL = slice(0, 3), slice(9, 11), slice(18, 21), slice(25, 28)
HOVER = 0.16  # m above the grasp, until the hand is over it
AT, ALIGNED, LOST = 0.012, 0.02, 0.04  # m: close enough to close; to go down; to begin anew
RISE, SINK = 0.03, 0.03  # m ahead of the hand
UNFOLDED = 0.072  # m between the fingers of an open hand, which holds nothing
STILL = 0.01  # m/s of fingers that have closed on something


@dataclass(frozen=True, slots=True, kw_only=True)
class PickPlace:
    """How an object is held. Fingers close along the world's y, so a bowl is taken by the rim at its +y side."""

    side: float = 0.0  # m from its middle, along y
    depth: float = 0.0  # m of the hand above its origin when it is held
    clear: float = 0.20  # m of the hand above object and goal on the way
    drop: float = 0.06  # m of the object above its goal when it is let go

    def __call__(self, state: np.ndarray) -> np.ndarray:
        """(..., S) -> (..., 7)."""
        rows = np.asarray(state, np.float64).reshape(-1, state.shape[-1])
        return np.stack([self._act(row) for row in rows]).reshape(*state.shape[:-1], 7)

    def _act(self, state: np.ndarray) -> np.ndarray:
        thing, goal = state[THING], state[GOAL]
        way = (goal - thing) * [1.0, 1.0, 0.0]
        far = float(np.linalg.norm(way))
        if far < LOST and thing[2] - goal[2] < self.drop:  # there: let go, then leave
            return motion([0, 0, 0.0 if opening(state) < UNFOLDED else SCALE], OPEN)
        if (reaching := reach(state, self.side, self.depth)) is not None:
            return reaching
        lift, height = max(goal[2] + self.clear, thing[2]), state[HAND][2]
        if far > LOST and height < lift - RISE:
            return motion([0, 0, lift + RISE - height], CLOSE)
        if far > ALIGNED:
            return motion(way + np.array([0, 0, lift - height]), CLOSE)
        return motion(way - [0, 0, SINK], CLOSE)


def reach(state: np.ndarray, side: float, depth: float) -> np.ndarray | None:
    """The action (7,) that gets hold of the thing: over it, down, and close. None when it is held."""
    gap = state[THING] + [0.0, side, depth] - state[HAND]
    aside, above = float(np.linalg.norm(gap[:2])), abs(gap[2])
    if opening(state) < UNFOLDED and max(aside, above) < LOST:  # the hand is closing, or closed
        return motion(np.zeros(3), CLOSE) if np.abs(state[FINGER_SPEEDS]).max() > STILL else None
    if aside > ALIGNED:
        return motion(gap + np.array([0, 0, HOVER]), OPEN)
    if max(aside, above) > AT:
        return motion(gap, OPEN)
    return motion(np.zeros(3), CLOSE)


def opening(state: np.ndarray) -> float:
    """m between the fingers."""
    return state[7] - state[8]


def motion(gap: np.ndarray | list[float], gripper: float) -> np.ndarray:
    """(7,): towards a point that is `gap` (3,) m away."""
    return np.array([*np.clip(np.asarray(gap) * (GAIN / SCALE), -1.0, 1.0), 0.0, 0.0, 0.0, gripper])


RIM = PickPlace(side=0.045, depth=0.035, clear=0.20, drop=0.025)
TOP = PickPlace(depth=0.045, clear=0.24, drop=0.10)
BOX = PickPlace()

# Tasks that it solves from nine of ten initial states or more; not those whose object lies in a drawer or on a cabinet,
# which the hand meets on its way down.
TASKS: Mapping[str, PickPlace] = {
    **{f"libero_spatial/{number}": RIM for number in (0, 1, 2, 3, 5, 6, 7, 8)},
    "libero_object/4": TOP,
    "libero_goal/1": RIM,
    "libero_goal/4": RIM,
    "libero_goal/6": BOX,
    "libero_goal/8": RIM,
}
