"""Bodies on a soccer field, after the rules of the RoboCup 2D simulator as Masson et al. (2016) cut them down.

Lengths are metres, velocities metres a tick.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from actors.envs.hybrid.base import clip

LENGTH, HALF_WIDTH = 20.0, 15.0  # of the half field: x in [0, 20], y in [-15, 15]
HALF_MOUTH, NET = 7.01, 2.44  # of the goal at x = 20: half its width, its depth
AREA_LENGTH, HALF_AREA = 5.5, 9.16  # of the goal area
KICKABLE, CATCHABLE = 1.6, 2.0  # distances from the ball
MAX_POWER, INERTIA = 100.0, 5.0
DASH, INTERCEPT, FOLLOW = 10.0, 20.0, 8.0  # powers of the player, of the keeper towards a shot, and else
FACING = math.pi / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What bodies of a kind can do."""

    size: float  # radius
    rate: float  # acceleration a unit of power
    noise: float  # relative
    max_acceleration: float  # of each component
    max_speed: float
    decay: float  # of the velocity, each tick


PLAYER = Kind(size=0.9, rate=0.006, noise=0.1, max_acceleration=1.0, max_speed=1.0, decay=0.4)
BALL = Kind(size=0.4, rate=0.027, noise=0.05, max_acceleration=2.7, max_speed=2.7, decay=0.94)


@dataclass(slots=True)
class Body:
    kind: Kind
    x: float
    y: float
    angle: float = 0.0  # where it looks, in [-pi, pi]
    vx: float = 0.0
    vy: float = 0.0

    @property
    def speed(self) -> float:
        return math.hypot(self.vx, self.vy)

    def distance(self, other: Body) -> float:
        return math.hypot(other.x - self.x, other.y - self.y)

    def angle_to(self, x: float, y: float) -> float:
        return math.atan2(y - self.y, x - self.x)

    def accelerate(self, power: float, angle: float, rng: random.Random) -> None:
        kind = self.kind
        angle *= 1.0 + rng.uniform(-kind.noise, kind.noise)
        spread, push, most = kind.noise * self.speed, power * kind.rate, kind.max_acceleration
        ax = clip(push * math.cos(angle) + rng.uniform(-spread, spread), -most, most)
        ay = clip(push * math.sin(angle) + rng.uniform(-spread, spread), -most, most)
        self.vx = clip(self.vx + ax, -kind.max_speed, kind.max_speed)
        self.vy = clip(self.vy + ay, -kind.max_speed, kind.max_speed)

    def move(self) -> None:
        self.x += self.vx
        self.y += self.vy
        self.vx *= self.kind.decay
        self.vy *= self.kind.decay

    def keep_apart(self, other: Body) -> None:
        """Two that overlap are moved apart by equal shares, and turn back."""
        overlap = self.kind.size + other.kind.size - self.distance(other)
        if overlap <= 0:
            return
        angle = self.angle_to(other.x, other.y)
        dx, dy = overlap / 2 * math.cos(angle), overlap / 2 * math.sin(angle)
        self.x, self.y, other.x, other.y = self.x - dx, self.y - dy, other.x + dx, other.y + dy
        for body in (self, other):
            body.vx, body.vy = -body.vx, -body.vy


def kick_to(player: Body, ball: Body, x: float, y: float, rng: random.Random) -> None:
    """A tick of the player who wants the ball at (x, y): turn or run to the ball, or kick it so that it stops there."""
    if player.distance(ball) > KICKABLE:
        _approach(player, ball, rng)
        return
    ax = (1 - BALL.decay) * (x - player.x) - ball.vx
    ay = (1 - BALL.decay) * (y - player.y) - ball.vy
    skill = _skill(player, ball)
    power = clip(math.hypot(ax, ay) / (skill * BALL.rate), -MAX_POWER, MAX_POWER)
    ball.accelerate(power * skill, math.atan2(ay, ax), rng)


def keep_goal(keeper: Body, ball: Body, rng: random.Random) -> None:
    """A tick of the keeper: onto the line of a ball that will reach the goal, else to where the ball will stop."""
    stop_x, stop_y = ball.x + ball.vx / (1 - BALL.decay), ball.y + ball.vy / (1 - BALL.decay)
    slope = ball.vy / ball.vx if ball.vx else 0.0
    on_line = ball.y + slope * (LENGTH - ball.x)  # where it crosses the goal line
    if stop_x > LENGTH and slope and abs(on_line) <= HALF_MOUTH + CATCHABLE:
        x = (keeper.x + slope * (keeper.y - ball.y) + slope**2 * ball.x) / (1 + slope**2)  # foot of the perpendicular
        target, power = (x, ball.y + slope * (x - ball.x)), INTERCEPT
    else:
        target, power = (stop_x, stop_y), FOLLOW
    keeper.angle = keeper.angle_to(*target)
    keeper.accelerate(power, keeper.angle, rng)


def wrap(angle: float) -> float:
    """The same angle in [-pi, pi]."""
    return math.remainder(angle, 2 * math.pi)


def _approach(player: Body, ball: Body, rng: random.Random) -> None:
    turn = wrap(player.angle_to(ball.x, ball.y) - player.angle)
    if abs(turn) < FACING:
        player.accelerate(DASH, player.angle, rng)
    else:
        player.angle = wrap(player.angle + turn / (1 + INERTIA * player.speed))


def _skill(player: Body, ball: Body) -> float:
    """The share of a kick's power that reaches the ball."""
    aside = abs(wrap(player.angle_to(ball.x, ball.y) - player.angle))
    return 1 - 0.25 * aside / math.pi - 0.25 * player.distance(ball) / KICKABLE
