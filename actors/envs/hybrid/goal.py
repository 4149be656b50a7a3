"""Goal and Hard Goal (Masson et al. 2016; Li et al. 2022): a striker against a keeper who follows the ball."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gymnasium import spaces

from actors.envs.hybrid.base import GO_ON, HybridEnv, Result, clip, one_box_each
from actors.envs.hybrid.soccer import (
    AREA_LENGTH,
    BALL,
    CATCHABLE,
    HALF_AREA,
    HALF_MOUTH,
    HALF_WIDTH,
    KICKABLE,
    LENGTH,
    NET,
    PLAYER,
    Body,
    keep_goal,
    kick_to,
)
from actors.envs.pixels import Canvas
from actors.envs.registry import EnvConfig

KICK_TO = 0  # every other action shoots
SLOW = 0.1  # metres a tick
SCORED = 50.0
MAX_TICKS = 5000  # of a decision; a player who never gets the ball under control is stopped
# Scales and shifts that bring a body's x, y, vx, vy, angle to [0, 1].
MOVING = ((LENGTH, 0.0), (2 * HALF_WIDTH, HALF_WIDTH))
RUNNER = (*MOVING, (2.0, 1.0), (2.0, 1.0), (2 * math.pi, math.pi))
ROLLING = (*MOVING, (6.0, 3.0), (6.0, 3.0))
SCALES = (*RUNNER, *RUNNER, *ROLLING)


class Goal(HybridEnv):
    """Actions: kick the ball to (x, y), or shoot at height y of the goal (twice, left and right). State (17,): x, y,
    velocity and angle of player and keeper, x, y and velocity of the ball, scaled to [-1, 1]; the direction from keeper
    to ball (a unit vector), and where the keeper hides the goal line from the ball.

    `scalar_kick` repeats a slip of the published code: a kick goes to (x, x).
    """

    task_text = "get the ball past the keeper and into the goal"
    limit = 100
    shots: Sequence[tuple[float, float]] = ((-1.0, 1.0), (-1.0, 1.0))  # lowest and highest aim, in halves of the mouth

    def __init__(self, config: EnvConfig, seed: int, scalar_kick: bool = False) -> None:
        self.scalar_kick = scalar_kick
        super().__init__(config, seed, state_size=17, bound=math.inf)

    def _actions(self) -> spaces.Tuple:
        aims = [((low * HALF_MOUTH,), (high * HALF_MOUTH,)) for low, high in self.shots]
        return one_box_each([((0.0, -HALF_WIDTH), (2 * LENGTH, HALF_WIDTH)), *aims])

    def _start(self) -> None:
        y = self.rng.uniform(-HALF_WIDTH, HALF_WIDTH)
        angle = math.atan2(-y, LENGTH)
        self.player = Body(PLAYER, 0.0, y, angle)
        self.ball = Body(BALL, KICKABLE * math.cos(angle), y + KICKABLE * math.sin(angle))
        x = LENGTH - AREA_LENGTH  # the keeper stands on the line from the ball to the goal, where his area begins
        line_y = self.ball.y * AREA_LENGTH / (LENGTH - self.ball.x)
        self.keeper = Body(PLAYER, x, clip(line_y, -HALF_AREA, HALF_AREA))
        self.keeper.angle = self.keeper.angle_to(self.ball.x, self.ball.y)

    def _decide(self, k: int, values: Sequence[float]) -> Result:
        if self.steps >= self.limit:  # the last decision is not played
            return Result(-self.from_goal(), terminated=True)
        x, y = self._target(k, values)
        for _ in range(MAX_TICKS):
            result = self.tick(x, y)
            settled = k == KICK_TO and self.ball.speed <= SLOW and self.player.distance(self.ball) <= KICKABLE
            if result.terminated or settled:
                return result
        return GO_ON

    def _target(self, k: int, values: Sequence[float]) -> tuple[float, float]:
        if k != KICK_TO:
            return LENGTH + BALL.size, clip(values[0], -HALF_MOUTH, HALF_MOUTH)
        return values[0], values[0] if self.scalar_kick else values[1]

    def tick(self, x: float, y: float) -> Result:
        """One tick in which the player wants the ball at (x, y)."""
        player, keeper, ball = self.player, self.keeper, self.ball
        kick_to(player, ball, x, y, self.rng)
        keep_goal(keeper, ball, self.rng)
        for body in (player, keeper, ball):
            body.move()
        player.keep_apart(keeper)
        player.keep_apart(ball)
        keeper.keep_apart(ball)
        return self._judge()

    def _judge(self) -> Result:
        ball = self.ball
        if LENGTH <= ball.x <= LENGTH + NET and abs(ball.y) <= HALF_MOUTH:
            return Result(SCORED, terminated=True, success=True)
        in_field = 0.0 <= ball.x <= LENGTH and abs(ball.y) <= HALF_WIDTH
        if self.keeper.distance(ball) < CATCHABLE or not in_field:
            return Result(-self.from_goal(), terminated=True)
        return GO_ON

    def from_goal(self) -> float:
        """Distance of the ball from the mouth of the goal; sideways only once it is past the goal line."""
        return math.hypot(max(0.0, LENGTH - self.ball.x), max(0.0, abs(self.ball.y) - HALF_MOUTH))

    def _state(self) -> list[float]:
        raw: list[float] = []
        for body in (self.player, self.keeper):
            raw += (body.x, body.y, body.vx, body.vy, body.angle)
        raw += (self.ball.x, self.ball.y, self.ball.vx, self.ball.vy)
        scaled = [2 * (v + shift) / scale - 1 for v, (scale, shift) in zip(raw, SCALES, strict=True)]
        angle = self.keeper.angle_to(self.ball.x, self.ball.y)
        return [*scaled, math.cos(angle), math.sin(angle), self._shadow() / HALF_MOUTH]

    def _shadow(self) -> float:
        """Where the line from the ball through the keeper meets the goal line, at most at a post."""
        dx, dy = self.keeper.x - self.ball.x, self.keeper.y - self.ball.y
        if dx == 0.0:
            return HALF_MOUTH if dy >= 0 else -HALF_MOUTH
        return clip(self.ball.y + dy / dx * (LENGTH - self.ball.x), -HALF_MOUTH, HALF_MOUTH)

    def _picture(self, size: int) -> Canvas:
        canvas = Canvas(size, -3.5, 26.5, -15.0, 15.0, (74, 132, 82))
        for side in (-1, 1):
            canvas.line(LENGTH, side * HALF_MOUTH, LENGTH + NET, side * HALF_MOUTH, (255, 255, 255))
            canvas.line(LENGTH - AREA_LENGTH, side * HALF_AREA, LENGTH, side * HALF_AREA, (200, 220, 200))
        canvas.line(LENGTH, -HALF_WIDTH, LENGTH, HALF_WIDTH, (255, 255, 255))
        canvas.line(LENGTH - AREA_LENGTH, -HALF_AREA, LENGTH - AREA_LENGTH, HALF_AREA, (200, 220, 200))
        for body, colour in ((self.player, (36, 72, 160)), (self.keeper, (192, 48, 48)), (self.ball, (250, 250, 250))):
            canvas.disc(body.x, body.y, max(0.5, body.kind.size), colour)
        return canvas


class HardGoal(Goal):
    """Eleven actions: kick, and ten shots, each of which aims within its own fifth of the goal; five left, five right.

    `constant_bins` repeats a slip of the published code: the two middle shots always aim at 0.2.
    """

    def __init__(self, config: EnvConfig, seed: int, scalar_kick: bool = False, constant_bins: bool = False) -> None:
        fifths = [(-1.0, -0.6), (-0.6, -0.2), (0.2 if constant_bins else -0.2, 0.2), (0.2, 0.6), (0.6, 1.0)]
        self.shots = 2 * fifths
        super().__init__(config, seed, scalar_kick)
