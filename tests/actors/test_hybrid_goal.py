"""Goal and Hard Goal against hand-worked ticks of their soccer."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from gymnasium import spaces

from actors.envs.flat_action import native_action_space
from actors.envs.hybrid.goal import Goal
from actors.envs.hybrid.soccer import BALL, PLAYER, Body, keep_goal, kick_to
from actors.envs.registry import EnvConfig, make


class Quiet:
    """A generator without noise."""

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


QUIET: random.Random = Quiet()  # type: ignore[assignment]


def game(task: str = "hybrid/goal") -> Goal:
    env = make(EnvConfig(task=task, pixels=False), 0).unwrapped
    assert isinstance(env, Goal)
    env.reset(seed=0)
    return env


def settled(env: Goal, y: float = 0.0) -> Goal:
    """The player in the middle of the field, the ball before him, the keeper far away, no noise."""
    env.rng = QUIET
    env.player = Body(PLAYER, 0.0, y)
    env.ball = Body(BALL, 1.6, y)
    env.keeper = Body(PLAYER, 19.0, 14.0)
    return env


def test_bodies_accelerate_within_limits_move_and_slow_down() -> None:
    ball = Body(BALL, 0.0, 0.0)
    ball.accelerate(50.0, 0.0, QUIET)
    assert (ball.vx, ball.vy) == pytest.approx((1.35, 0.0))
    ball.accelerate(100.0, 0.0, QUIET)
    assert ball.vx == 2.7
    ball.move()
    assert (ball.x, ball.vx) == pytest.approx((2.7, 2.7 * 0.94))


def test_bodies_that_overlap_are_moved_apart_and_turn_back() -> None:
    player, ball = Body(PLAYER, 0.0, 0.0, vx=0.1), Body(BALL, 1.0, 0.0, vx=-0.5)
    player.keep_apart(ball)
    assert (player.x, ball.x) == pytest.approx((-0.15, 1.15))
    assert (player.vx, ball.vx) == (-0.1, 0.5)


def test_a_kick_gives_the_ball_the_speed_to_stop_where_it_should() -> None:
    player, ball = Body(PLAYER, 0.0, 0.0), Body(BALL, 1.6, 0.0)
    kick_to(player, ball, 10.0, 0.0, QUIET)
    assert (ball.vx, ball.vy) == pytest.approx((0.6, 0.0))
    assert ball.vx / 0.06 == pytest.approx(10.0)  # the whole way it will roll
    kick_to(player, ball, 10.0, 10.0, QUIET)
    assert (ball.vx, ball.vy) == pytest.approx((0.6, 0.6))  # what it has is made up for


def test_a_kick_from_behind_is_weaker() -> None:
    """Power is limited to 100 before it is weighted: facing away costs a quarter, the reach another."""
    player, ball = Body(PLAYER, 0.0, 0.0, angle=math.pi), Body(BALL, 1.6, 0.0)
    kick_to(player, ball, 1000.0, 0.0, QUIET)
    assert ball.vx == pytest.approx(100 * 0.5 * 0.027)


def test_a_player_without_the_ball_turns_then_runs_to_it() -> None:
    player, ball = Body(PLAYER, 0.0, 0.0, angle=math.pi), Body(BALL, 3.0, 0.0)
    kick_to(player, ball, 10.0, 0.0, QUIET)
    assert (abs(player.angle), player.speed) == (pytest.approx(0.0), 0.0)  # at rest it turns at once
    kick_to(player, ball, 10.0, 0.0, QUIET)
    assert player.vx == pytest.approx(10 * 0.006)
    moving = Body(PLAYER, 0.0, 0.0, angle=math.pi / 2, vx=0.1)
    kick_to(moving, ball, 10.0, 0.0, QUIET)
    assert moving.angle == pytest.approx(math.pi / 2 - (math.pi / 2) / 1.5)


def test_the_keeper_steps_onto_the_line_of_a_shot() -> None:
    away = Body(BALL, 10.0, 0.0, vx=2.0, vy=2.5)  # crosses the goal line at 12.5
    keep_goal(keeper := Body(PLAYER, 18.0, 0.0), away, QUIET)
    assert keeper.speed == pytest.approx(8 * 0.006)
    wide = Body(BALL, 10.0, -3.0, vx=2.0, vy=1.0)  # at 2 on the goal line
    keep_goal(keeper := Body(PLAYER, 18.0, 0.0), wide, QUIET)
    assert keeper.speed == pytest.approx(20 * 0.006)
    foot = (18 + 0.5 * 3 + 0.25 * 10) / 1.25
    assert keeper.angle == pytest.approx(math.atan2(-3 + 0.5 * (foot - 10), foot - 18))


def test_the_start_is_the_papers() -> None:
    env = game()
    places = set()
    for seed in range(30):
        env.reset(seed=seed)
        assert env.player.x == 0.0
        assert env.player.distance(env.ball) == pytest.approx(1.6)
        assert env.player.angle_to(20.0, 0.0) == pytest.approx(env.player.angle)
        assert env.keeper.x == 14.5
        assert env.keeper.angle_to(20.0, 0.0) == pytest.approx(env.ball.angle_to(20.0, 0.0))
        places.add(round(env.player.y))
    assert max(places) > 9
    assert min(places) < -9


def test_a_ball_in_the_net_scores() -> None:
    env = settled(game())
    env.ball = Body(BALL, 19.0, 3.0, vx=2.0)
    result = env.tick(0.0, 0.0)
    assert (result.reward, result.terminated, result.success) == (50.0, True, True)


@pytest.mark.parametrize(
    ("ball", "reward"),
    [
        (Body(BALL, 19.0, 8.0, vx=2.0), -(8.0 - 7.01)),  # past the goal line, beside the post
        (Body(BALL, 10.0, -14.5, vy=-1.0), -math.hypot(10.0, 15.5 - 7.01)),  # out at the side
        (Body(BALL, 0.5, 2.0, vx=-2.0), -21.5),  # out at the back, level with the mouth
        (Body(BALL, 17.5, 12.0), -math.hypot(2.5, 12.0 - 7.01)),  # in the keeper's hands
    ],
)
def test_a_ball_that_is_lost_costs_its_distance_from_the_goal(ball: Body, reward: float) -> None:
    env = settled(game())
    env.player, env.ball = Body(PLAYER, 8.0, -8.0), ball
    if ball.speed == 0:
        env.keeper = Body(PLAYER, 17.5, 13.5)
    result = env.tick(0.0, 0.0)
    assert (result.terminated, result.success) == (True, False)
    assert result.reward == pytest.approx(reward)


def test_kicking_lasts_until_the_ball_is_under_control_again() -> None:
    env = settled(game())
    result = env._decide(0, (6.0, 2.0))
    assert (result.reward, result.terminated) == (0.0, False)
    assert env.ball.speed <= 0.1
    assert env.player.distance(env.ball) <= 1.6
    assert math.hypot(env.ball.x - 6.0, env.ball.y - 2.0) < 2.0


def test_a_shot_lasts_until_it_is_decided() -> None:
    env = settled(game())
    result = env._decide(1, (-5.0,))
    assert (result.success, result.reward) == (True, 50.0)
    assert env.ball.y == pytest.approx(-5.0, abs=0.6)


def test_the_hundredth_decision_is_not_played() -> None:
    env = settled(game())
    env.steps = 99
    _, reward, terminated, truncated, _ = env.step((1, tuple(np.zeros(n, np.float32) for n in (2, 1, 1))))
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(-(20 - 1.6))


def test_the_state_has_the_direction_to_the_ball_and_the_keepers_shadow() -> None:
    env = settled(game())
    env.keeper = Body(PLAYER, 11.6, 2.0)
    state = env._state()
    assert len(state) == 17
    assert state[0:5] == pytest.approx([-1.0, 0.0, 0.0, 0.0, 0.0])
    assert state[10:14] == pytest.approx([2 * 1.6 / 20 - 1, 0.0, 0.0, 0.0])
    assert state[14:16] == pytest.approx([-10 / math.hypot(10, 2), -2 / math.hypot(10, 2)])
    assert state[16] == pytest.approx(0.2 * 18.4 / 7.01)
    env.keeper.y = 9.0
    assert env._state()[16] == 1.0


def test_the_quirk_kicks_to_x_and_x() -> None:
    assert game()._target(0, (12.0, -3.0)) == (12.0, -3.0)
    assert game("hybrid/goal@scalar_kick")._target(0, (12.0, -3.0)) == (12.0, 12.0)


def aims(task: str) -> list[tuple[float, float]]:
    space = native_action_space(make(EnvConfig(task=task), 0))
    assert isinstance(space, spaces.Tuple)
    boxes = list(space[1])[1:]  # type: ignore[call-overload]
    return [(round(float(box.low[0]) / 7.01, 3), round(float(box.high[0]) / 7.01, 3)) for box in boxes]


def test_hard_goals_shots_aim_at_fifths_and_its_quirk_at_a_constant() -> None:
    fifths = [(-1.0, -0.6), (-0.6, -0.2), (-0.2, 0.2), (0.2, 0.6), (0.6, 1.0)]
    assert aims("hybrid/goal") == [(-1.0, 1.0)] * 2
    assert aims("hybrid/hard_goal") == fifths * 2
    quirk = aims("hybrid/hard_goal@constant_bins")
    assert (quirk[2], quirk[7]) == ((0.2, 0.2), (0.2, 0.2))
