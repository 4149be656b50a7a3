"""A point mass in a plane that looks for a point: Catch Point, Hard Move n, Simple Move (Li et al. 2022, section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from actors.envs.hybrid.base import HybridEnv, Result
from actors.envs.pixels import Canvas
from actors.envs.registry import EnvConfig

FORCE, DT, DAMPING = 2.0, 0.1, 0.25
REACHED = 0.2  # distance from the target
BONUS = 20.0
MOVE, CATCH = 0, 1
MAX_FAILURES = 10


class PointMass(HybridEnv):
    """State (4,): velocity, and the vector to the target. Both points start uniformly in [-1, 1]^2."""

    fps = 1 / DT
    choices: int  # discrete actions

    def __init__(self, config: EnvConfig, seed: int) -> None:
        super().__init__(config, seed, state_size=4, bound=math.inf)

    def _start(self) -> None:
        draw = self.rng.uniform
        self.vx = self.vy = 0.0
        self.x, self.y, self.target_x, self.target_y = (draw(-1.0, 1.0) for _ in range(4))

    def _actions(self) -> spaces.Tuple:
        return spaces.Tuple((spaces.Discrete(self.choices), spaces.Box(-1.0, 1.0, (1,), np.float32)))

    def move(self, force_x: float, force_y: float) -> float:
        """One tick under a force of unit mass; the squared distance from the target after it."""
        self.vx = self.vx * (1 - DAMPING) + force_x * DT
        self.vy = self.vy * (1 - DAMPING) + force_y * DT
        self.x += self.vx * DT
        self.y += self.vy * DT
        return (self.target_x - self.x) ** 2 + (self.target_y - self.y) ** 2

    def _state(self) -> list[float]:
        return [self.vx, self.vy, self.target_x - self.x, self.target_y - self.y]

    def _picture(self, size: int) -> Canvas:
        canvas = Canvas(size, -1.5, 1.5, -1.5, 1.5, (246, 245, 240))
        canvas.disc(self.target_x, self.target_y, REACHED, (150, 196, 140))
        canvas.disc(self.x, self.y, 0.08, (36, 72, 160))
        canvas.line(self.x, self.y, self.x + 0.5 * self.vx, self.y + 0.5 * self.vy, (20, 20, 20))
        return canvas


class CatchPoint(PointMass):
    """Actions: 0 pushes towards (sin, cos) of pi times the parameter, 1 catches. The eleventh failed catch ends it."""

    task_text = "move to the target and catch it there"
    limit = 25
    choices = 2

    def _start(self) -> None:
        super()._start()
        self.failures = 0

    def _decide(self, k: int, values: Sequence[float]) -> Result:
        angle, force = math.pi * values[0], FORCE if k == MOVE else 0.0
        squared = self.move(force * math.sin(angle), force * math.cos(angle))
        if k == MOVE:
            return Result(-squared)
        if squared <= REACHED**2:
            return Result(BONUS - squared, terminated=True, success=True)
        self.failures += 1
        return Result(-squared) if self.failures <= MAX_FAILURES else Result(0.0, terminated=True)


class HardMove(PointMass):
    """`actuators` pushers around the mass. Action k switches on those of its bits (the highest is the first pusher);
    the parameter says how hard they push together, and which way round."""

    task_text = "push the mass onto the target"
    limit = 30

    def __init__(self, config: EnvConfig, seed: int, actuators: int = 4) -> None:
        self.directions = directions(actuators)
        self.choices = len(self.directions)
        super().__init__(config, seed)

    def _decide(self, k: int, values: Sequence[float]) -> Result:
        force = FORCE * values[0]
        squared = self.move(force * self.directions[k][0], force * self.directions[k][1])
        if squared <= REACHED**2:
            return Result(BONUS - squared, terminated=True, success=True)
        return Result(-squared)


class SimpleMove(HardMove):
    """Four pushers, and one more action, the last, that switches none of them on."""

    def __init__(self, config: EnvConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.directions.append((0.0, 0.0))
        self.choices = len(self.directions)
        self.action_space = self._actions()


def directions(actuators: int) -> list[tuple[float, float]]:
    """The pull of every subset of actuators around a circle, the largest of length 1."""
    angles = [2 * math.pi * i / actuators for i in range(actuators)]
    units = [(round(math.cos(angle), 3), round(math.sin(angle), 3)) for angle in angles]
    sums = []
    for mask in range(2**actuators):
        on = [unit for i, unit in enumerate(units) if mask >> (actuators - 1 - i) & 1]
        sums.append((math.fsum(x for x, _ in on), math.fsum(y for _, y in on)))
    longest = max(math.hypot(x, y) for x, y in sums)
    return [(x / longest, y / longest) for x, y in sums]
