"""What robosuite's environments have in common, those of LIBERO too: a robot's arm seen by two cameras."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from actors.hosting import plain
from actors.hosting.guests import gl
from actors.hosting.guests.pictures import shrink

CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
FPS = 20.0
# The robot's part of "state": positions in m, a quaternion (x, y, z, w), both fingers in m and m/s, joints in rad.
ROBOT = (("eef_pos", 3), ("eef_quat", 4), ("gripper_qpos", 2), ("gripper_qvel", 2), ("joint_pos", 7))
Sizes = Sequence[tuple[str, int]]


class ArmView:
    """Makes observations: "proprio" (8,) float32, position (m), axis-angle (rad) and both fingers of the gripper (m);
    "state" (S,) float32, the robot and then the objects, as `fields` has them; "agentview" and "wrist"
    (size, size, 3) uint8.
    """

    def __init__(
        self,
        sim: Any,
        objects: Sizes,
        upright: Callable[[np.ndarray], np.ndarray],
        *,
        size: int,
        render_size: int,
        pixels: bool,
        state: bool,
    ) -> None:
        """`upright` turns a frame, whose first row is the lowest, as the suite's users expect it."""
        self._sim, self._upright = sim, upright
        self._size, self._render_size, self._pixels, self._state = size, render_size, pixels, state
        self.fields = [*ROBOT, *objects]
        self._renderer: gl.Renderer | None = None
        self._frames: dict[str, np.ndarray] = {}

    def space(self) -> dict[str, Any]:
        found = {"proprio": plain.box(-np.inf, np.inf, (8,), np.float32)}
        if self._state:
            width = sum(size for _, size in self.fields)
            found["state"] = plain.box(-np.inf, np.inf, (width,), np.float32)
        if self._pixels:
            found.update({name: plain.box(0, 255, (self._size, self._size, 3), np.uint8) for name in CAMERAS})
        return plain.fields(**found)

    def observe(self, seen: Mapping[str, Any], objects: Sequence[np.ndarray]) -> dict[str, Any]:
        """From robosuite's observation and the objects' values."""
        self._frames.clear()
        robot = {name: seen["robot0_" + name] for name, _ in ROBOT}
        turn = axis_angle(robot["eef_quat"])
        found = {"proprio": np.concatenate([robot["eef_pos"], turn, robot["gripper_qpos"]])}
        if self._state:
            found["state"] = np.concatenate([*robot.values(), *map(np.ravel, objects)])
        if self._pixels:
            found.update({name: shrink(self.frame(name), self._size) for name in CAMERAS})
        return found

    def frame(self, name: str) -> np.ndarray:
        """(render_size, render_size, 3) uint8 of a camera, as it sees the present."""
        if name not in self._frames:
            self._renderer = self._renderer or gl.Renderer(self._sim, self._render_size)
            self._frames[name] = np.ascontiguousarray(self._upright(self._renderer.frame(CAMERAS[name])))
        return self._frames[name]


def quiet() -> None:
    """robosuite warns of nothing in dozens of lines at each start, which would push out those that count."""
    logging.disable(logging.WARNING)


def axis_angle(quat: np.ndarray) -> np.ndarray:
    """(x, y, z, w) -> axis times angle in radians, the angle in [0, 2 pi) as LIBERO's data have it."""
    w = np.clip(quat[3], -1.0, 1.0)
    sine = np.sqrt(1.0 - w * w)
    return np.zeros(3) if sine < 1e-8 else quat[:3] * (2.0 * np.arccos(w) / sine)
