"""Catch Point and Hard Move against hand-worked ticks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from actors.envs.hybrid.point_mass import CatchPoint, HardMove, PointMass, SimpleMove, directions
from actors.envs.registry import EnvConfig, make


def game(name: str, x: float = 0.0, y: float = 0.0, target: tuple[float, float] = (1.0, 0.0)) -> PointMass:
    env = make(EnvConfig(task=f"hybrid/{name}", pixels=False), 0).unwrapped
    assert isinstance(env, PointMass)
    env.reset(seed=0)
    env.x, env.y, (env.target_x, env.target_y) = x, y, target
    return env


def test_a_tick_of_moving() -> None:
    env = game("catch_point")
    result = env._decide(0, (0.5,))  # sin(pi/2) = 1 along x
    assert (env.vx, env.vy, env.x, env.y) == pytest.approx((0.2, 0.0, 0.02, 0.0))
    assert result.reward == pytest.approx(-(0.98**2))
    env._decide(0, (0.0,))  # cos(0) = 1 along y
    assert (env.vx, env.vy, env.x, env.y) == pytest.approx((0.15, 0.2, 0.035, 0.02))
    assert env._state() == pytest.approx([0.15, 0.2, 0.965, -0.02])


def test_a_catch_pushes_nothing_and_pays_only_near_the_target() -> None:
    env = game("catch_point", x=0.85)
    result = env._decide(1, (0.5,))
    assert (env.vx, result.terminated, result.success) == (0.0, True, True)
    assert result.reward == pytest.approx(20 - 0.15**2)


def test_the_eleventh_failed_catch_ends_it_for_nothing() -> None:
    env = game("catch_point")
    assert isinstance(env, CatchPoint)
    for _ in range(10):
        result = env._decide(1, (0.0,))
        assert (result.reward, result.terminated) == (-1.0, False)
    result = env._decide(1, (0.0,))
    assert (result.reward, result.terminated, result.success) == (0.0, True, False)
    env.reset(seed=1)
    assert env.failures == 0


def test_moving_onto_the_target_is_no_catch() -> None:
    env = game("catch_point", x=0.99)
    assert not env._decide(0, (0.5,)).terminated


def test_the_highest_bit_is_the_first_actuator() -> None:
    pulls = directions(4)
    assert pulls[0] == (0.0, 0.0)
    longest = math.sqrt(2)
    assert pulls[0b1000] == pytest.approx((1 / longest, 0.0))
    assert pulls[0b0100] == pytest.approx((0.0, 1 / longest))
    assert pulls[0b1100] == pytest.approx((1 / longest, 1 / longest))
    assert pulls[0b1111] == pytest.approx((0.0, 0.0))


@pytest.mark.parametrize("actuators", [4, 5, 6, 8, 10])
def test_no_pull_is_longer_than_one(actuators: int) -> None:
    lengths = [math.hypot(x, y) for x, y in directions(actuators)]
    assert len(lengths) == 2**actuators
    assert max(lengths) == pytest.approx(1.0)


def test_a_push_goes_both_ways_and_arriving_wins() -> None:
    env = game("hard_move_4")
    assert isinstance(env, HardMove)
    env._decide(0b1000, (-1.0,))
    assert (env.vx, env.x) == pytest.approx((-0.2 / math.sqrt(2), -0.02 / math.sqrt(2)))
    env = game("hard_move_4", x=0.79)
    result = env._decide(0b1000, (1.0,))
    squared = (0.21 - 0.02 / math.sqrt(2)) ** 2
    assert (result.terminated, result.success) == (True, True)
    assert result.reward == pytest.approx(20 - squared)


def test_simple_move_can_rest() -> None:
    env = game("simple_move")
    assert isinstance(env, SimpleMove)
    env.vx = 0.4
    env._decide(16, (1.0,))
    assert (env.vx, env.vy) == pytest.approx((0.3, 0.0))


def test_points_start_anywhere_in_the_square() -> None:
    env = make(EnvConfig(task="hybrid/hard_move_6", pixels=False), 0)
    states = np.array([env.reset(seed=seed)[0]["state"] for seed in range(300)])
    assert not states[:, :2].any()
    assert states[:, 2:].std(axis=0) == pytest.approx(math.sqrt(2 / 3), abs=0.1)  # of a difference of uniforms
    assert abs(states[:, 2:]).max() < 2
