"""A table-top in a few numbers: `tabletop/pick_place`, a cube to be put on a plate by a robot's hand.

No simulator: the hand follows commands with the lags that were measured on LIBERO's arm (actors/experts/arm.py),
fingers close on what is between them, what is let go falls down. Its state has LIBERO's layout and its actions have
LIBERO's meaning, so that experts, action sources and tokenizers can be tried anywhere, thousands of steps a second.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.envs.pixels import Canvas, resize
from actors.envs.registry import EnvConfig, limit_steps, unknown
from actors.experts.arm import WIDEST, Arm, into_state
from actors.experts.libero import GOAL

TASKS = ("pick_place",)
STATE = 32  # 18 of the robot; the cube's position and quaternion; the plate's
HOME = np.array([0.0, 0.0, 0.25])  # m, where the hand starts
CUBE, PLATE = 0.02, 0.01  # m above the table: the middle of the cube that lies on it, the plate
REACH = np.array([[-0.3, -0.3, CUBE], [0.3, 0.3, 0.5]])  # m, where the hand can be
ON, BESIDE = 0.025, 0.12  # m from the plate's middle: what counts as on it; how far the cube is at least
GRIP = np.array([0.02, 0.02, 0.02])  # m between hand and cube within which the fingers have it
FALL = 0.05  # m a step
TABLE, WOOD, INK, RED, BLUE = (238, 236, 231), (214, 196, 168), (60, 70, 80), (196, 72, 54), (58, 110, 165)


def tasks() -> tuple[str, ...]:
    return TASKS


def make(config: EnvConfig, seed: int) -> Tabletop:
    name = config.task.partition("/")[2]
    if name not in TASKS:
        raise unknown("table-top task", name, TASKS)
    return Tabletop(config, seed)


class Tabletop(gymnasium.Env):
    """Observations: "proprio" (8,) and "state" (32,) float32 as actors/hosting/guests/arm.py makes them; with pixels
    "agentview", from above, and "wrist", around the hand, (size, size, 3) uint8. The reward is 1 when the cube lies on
    the plate and nothing holds it, which ends the episode."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own attribute)
    render_mode = "rgb_array"
    task_text = "pick up the cube and place it on the plate"
    fps = 20.0
    success_terminates = True

    def __init__(self, config: EnvConfig, seed: int) -> None:
        self.config, self._rng = config, np.random.default_rng(seed)
        self.max_steps = limit_steps(config, self.fps, 200)
        self.action_space = spaces.Box(-1.0, 1.0, (7,), np.float32)
        found: dict[str, spaces.Space] = {"proprio": spaces.Box(-np.inf, np.inf, (8,), np.float32)}
        if config.state:
            found["state"] = spaces.Box(-np.inf, np.inf, (STATE,), np.float32)
        if config.pixels:
            shape = (config.image_size, config.image_size, 3)
            found |= {name: spaces.Box(0, 255, shape, np.uint8) for name in ("agentview", "wrist")}
        self.observation_space = spaces.Dict(found)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._steps = 0
        self._turned = np.zeros(3)  # rad, axis by axis: rotations stay small
        self._plate = np.array([*self._rng.uniform(-0.2, 0.2, 2), PLATE])
        cube = self._rng.uniform(-0.2, 0.2, 2)
        while np.linalg.norm(cube - self._plate[:2]) < BESIDE:
            cube = self._rng.uniform(-0.2, 0.2, 2)
        self._arm = Arm(
            hand=HOME + self._rng.uniform(-0.02, 0.02, 3),
            speed=np.zeros(3),
            opening=WIDEST,
            closing=0.0,
            thing=np.array([*cube, CUBE]),
            width=2 * CUBE,
            grip=GRIP,
        )
        return self._observe(), {"success": False}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self._steps += 1
        action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._turned += 0.125 * action[3:6]
        self._arm = _settled(self._arm.moved(action), self._plate)
        away = float(np.linalg.norm(self._arm.thing[:2] - self._plate[:2]))
        success = away < ON and not self._arm.held and self._arm.thing[2] == PLATE + CUBE
        late = self._steps >= self.max_steps
        return self._observe(), float(success), success, late and not success, {"success": success}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """(render_size, render_size, 3) uint8, from above."""
        return self._picture(np.zeros(2), 0.32)

    def _observe(self) -> dict[str, np.ndarray]:
        found = {"proprio": self._proprio().astype(np.float32)}
        if self.config.state:
            found["state"] = self._state().astype(np.float32)
        if self.config.pixels:
            size, hand = self.config.image_size, self._arm.hand[:2]
            found["agentview"] = resize(self.render(), size)
            found["wrist"] = resize(self._picture(hand, 0.08), size)
        return found

    def _proprio(self) -> np.ndarray:
        fingers = 0.5 * self._arm.opening
        return np.concatenate([self._arm.hand, self._turned, [fingers, -fingers]])

    def _state(self) -> np.ndarray:
        state = np.zeros(STATE)
        state[GOAL] = self._plate
        state[[6, 24, 31]] = 1.0  # quaternions (x, y, z, w): the hand's, the cube's, the plate's
        return into_state(self._arm, state)

    def _picture(self, middle: np.ndarray, reach: float) -> np.ndarray:
        """What lies within `reach` m of a point; what is higher is drawn larger."""
        (x, y), arm = middle, self._arm
        canvas = Canvas(self.config.render_size, x - reach, x + reach, y - reach, y + reach, WOOD)
        canvas.disc(self._plate[0], self._plate[1], 0.06, TABLE)
        side = CUBE * (1.0 + arm.thing[2])
        canvas.rectangle(arm.thing[0] - side, arm.thing[1] - side, 2 * side, 2 * side, RED)
        thick = 0.012 * (1.0 + 2.0 * arm.hand[2])
        for aside in (-0.5 * arm.opening, 0.5 * arm.opening):
            canvas.rectangle(arm.hand[0] - thick, arm.hand[1] + aside - 0.5 * thick, 2 * thick, thick, INK)
        canvas.disc(arm.hand[0], arm.hand[1], 0.008 * (1.0 + 4.0 * arm.hand[2]), BLUE)
        return canvas.array()


def _settled(arm: Arm, plate: np.ndarray) -> Arm:
    """Nothing goes through the table; what nobody holds falls."""
    over_plate = float(np.linalg.norm(arm.thing[:2] - plate[:2])) < 0.06
    floor = CUBE + (PLATE if over_plate else 0.0)
    thing = arm.thing.copy()
    thing[2] = max(floor, thing[2] - (0.0 if arm.held else FALL))
    return replace(arm, hand=np.clip(arm.hand, *REACH), thing=thing)
