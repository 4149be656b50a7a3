"""Platform (Masson, Ranchod, Konidaris 2016, arXiv 1509.01644): run, hop and leap over two gaps, past two enemies.

Lengths are pixels, times seconds. The return of an episode is the share of the way that was made; 1 is the goal.
"""

from __future__ import annotations

from collections.abc import Sequence

from gymnasium import spaces

from actors.envs.hybrid.base import HybridEnv, Result, clip, one_box_each
from actors.envs.pixels import Canvas
from actors.envs.registry import EnvConfig

RUN, HOP, LEAP = 0, 1, 2
REACH = {RUN: 30.0, HOP: 720.0, LEAP: 430.0}  # largest parameter: speed gained a tick, lengths of the jumps
LIFT = {HOP: 35.0, LEAP: 25.0}  # upward speed
DT, RUN_TICKS = 0.05, 20  # a run lasts a second, a jump until it lands
GRAVITY, DECAY = 9.8, 0.99  # the latter of the speed forward, each tick
MAX_VX, MAX_VX_STANDING, MAX_VY = 100.0, 70.0, 200.0
MAX_AX, MAX_AY = 600.0, 4000.0
WIDTH, HEIGHT = 20.0, 30.0  # of the player and of an enemy
ENEMY_SPEED, NOISE = 30.0, 0.5 * DT
FLOOR = 40.0  # where feet stand
PLATFORMS = ((0.0, 250.0), (475.0, 275.0), (985.0, 50.0))  # left end, width
GAPS = (225.0, 235.0, 0.0)
GOAL = 1035.0
SCALE = (GOAL + WIDTH, MAX_VX, GOAL, 2 * ENEMY_SPEED, 275.0, 275.0, 235.0, GOAL, 1.0)  # of the state
SHIFT = (WIDTH, 0.0, 0.0, ENEMY_SPEED, 0.0, 0.0, 0.0, 0.0, 0.0)


class Platform(HybridEnv):
    """State (9,): the player's place and speed, those of the enemy of its part of the level, the width of its platform
    and of the next, the gap between, its platform's left end, the difference in height (0); each scaled to [-1, 1]."""

    task_text = "run and leap over the gaps to the far right, and touch no enemy"

    def __init__(self, config: EnvConfig, seed: int) -> None:
        super().__init__(config, seed, state_size=9)

    def _actions(self) -> spaces.Tuple:
        return one_box_each([((0.0,), (REACH[k],)) for k in (RUN, HOP, LEAP)])

    def _start(self) -> None:
        self.x, self.y, self.vx, self.vy = 0.0, FLOOR, 0.0, 0.0
        self.enemies = [[left + width - WIDTH, -ENEMY_SPEED] for left, width in PLATFORMS[:2]]  # place, speed

    def _decide(self, k: int, values: Sequence[float]) -> Result:
        start, ticks = self.x, 0
        while True:
            over = self.tick(k, values[0])
            ticks += 1
            if over or (ticks == RUN_TICKS if k == RUN else self.standing()):
                break
        success = self.x >= GOAL
        reward = (self.x - start) / GOAL
        return Result(reward, terminated=over, success=success) if over else Result(reward)

    def tick(self, k: int, value: float) -> bool:
        """0.05 s of action `k`; whether the episode is over."""
        if self.standing():
            self._push(k, value)
        else:
            self._accelerate(0.0, -GRAVITY)
        section = 1 if self.x > PLATFORMS[1][0] else 0  # the enemy elsewhere waits
        self.x = clip(self.x + self.vx * DT, 0.0, GOAL)
        self.y += self.vy * DT
        self.vx *= DECAY
        self._move_enemy(section)
        for left, width in PLATFORMS:
            self._keep_out(left, left + width)
        return self.x >= GOAL or self.y < FLOOR or any(self._touches(place) for place, _ in self.enemies)

    def standing(self) -> bool:
        return self.y == FLOOR and any(-WIDTH <= self.x - left <= width for left, width in PLATFORMS)

    def _push(self, k: int, value: float) -> None:
        """From the ground: faster, or off it."""
        if k == RUN:
            self._accelerate(value / DT, 0.0)
        else:
            lift = LIFT[k]
            flight_s = 2.0 * lift / GRAVITY + 1.0
            forward = clip(value / flight_s - self.vx, -MAX_AX, MAX_VY - lift)
            gauss = self.rng.gauss
            self._accelerate((forward - abs(gauss(0.0, 1.0))) / DT, (lift - abs(gauss(0.0, 1.0))) / DT)
        self.vx = clip(self.vx, 0.0, MAX_VX_STANDING)

    def _accelerate(self, ax: float, ay: float) -> None:
        gained = clip(ax, -MAX_AX, MAX_AX) * DT - abs(self.rng.gauss(0.0, NOISE))
        self.vx = clip(self.vx + gained, 0.0, MAX_VX)
        self.vy = clip(self.vy + clip(ay, -MAX_AY, MAX_AY) * DT, -MAX_VY, MAX_VY)

    def _move_enemy(self, section: int) -> None:
        left, width = PLATFORMS[section]
        right = left + width - WIDTH
        place, speed = self.enemies[section]
        if not left < place < right:
            speed = -speed
        speed = clip(speed + self.rng.gauss(0.0, NOISE), -ENEMY_SPEED, ENEMY_SPEED)
        self.enemies[section] = [clip(place + speed * DT, left, right), speed]

    def _keep_out(self, left: float, right: float) -> None:
        """Moves the player out of a platform's body by the shorter way: up, or back from its end."""
        if not (left - WIDTH < self.x < right and -HEIGHT < self.y < FLOOR):
            return
        aside = left - WIDTH - self.x if self.x < left else right - self.x if self.x > right - WIDTH else None
        if aside is not None and abs(aside) < FLOOR - self.y:
            self.x += aside
        else:
            self.y, self.vy = FLOOR, 0.0
        self.vx = 0.0

    def _touches(self, place: float) -> bool:
        return abs(self.x - place) < WIDTH and abs(self.y - FLOOR) < HEIGHT

    def _state(self) -> list[float]:
        place, speed = self.enemies[1 if self.x > PLATFORMS[1][0] else 0]
        here = 0 if self.x < PLATFORMS[1][0] else 1 if self.x < PLATFORMS[2][0] else 2
        left, width = PLATFORMS[here]
        following = PLATFORMS[here + 1][1] if here < 2 else 0.0
        found = (self.x, self.vx, place, speed, width, following, GAPS[here], left, 0.0)
        return [2.0 * (v + shift) / scale - 1.0 for v, shift, scale in zip(found, SHIFT, SCALE, strict=True)]

    def _picture(self, size: int) -> Canvas:
        canvas = Canvas(size, -20.0, GOAL + 20.0, -40.0, 180.0, (203, 224, 238))
        for left, width in PLATFORMS:
            canvas.rectangle(left, -40.0, width, FLOOR + 40.0, (120, 94, 72))
        for place, _ in self.enemies:
            canvas.rectangle(place, FLOOR, WIDTH, HEIGHT, (192, 48, 48))
        canvas.rectangle(self.x, self.y, WIDTH, HEIGHT, (36, 72, 160))
        return canvas
