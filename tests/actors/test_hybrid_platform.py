"""Platform against hand-worked ticks, and against what was measured of the original."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from actors.envs.hybrid.platform import GOAL, HOP, LEAP, PLATFORMS, RUN, Platform
from actors.envs.registry import EnvConfig, make

CONFIG = EnvConfig(task="hybrid/platform", pixels=False)


class Quiet:
    """A generator that makes no noise."""

    def gauss(self, mean: float, spread: float) -> float:
        return 0.0


@pytest.fixture
def game() -> Platform:
    env = make(CONFIG, 0).unwrapped
    assert isinstance(env, Platform)
    env.reset(seed=0)
    env.rng = Quiet()  # type: ignore[assignment]
    return env


def test_a_tick_of_running(game: Platform) -> None:
    """10/0.05 m/s^2 for 0.05 s: 10 m/s, so 0.5 forward; then 1% of the speed is lost."""
    assert not game.tick(RUN, 10.0)
    assert (game.x, game.y, game.vx, game.vy) == pytest.approx((0.5, 40.0, 9.9, 0.0))
    game.tick(RUN, 30.0)
    assert (game.x, game.vx) == pytest.approx((0.5 + 39.9 * 0.05, 39.9 * 0.99))
    for _ in range(5):
        game.tick(RUN, 30.0)
    assert game.vx == pytest.approx(70 * 0.99)  # the most that feet can do


def test_a_tick_of_leaping_and_one_of_falling(game: Platform) -> None:
    """Time of flight 50/9.8 + 1 s; the push forward is limited to 600 m/s^2, which is 30 m/s in a tick."""
    game.tick(LEAP, 430.0)
    assert (game.x, game.y, game.vx, game.vy) == pytest.approx((30 * 0.05, 40 + 25 * 0.05, 30 * 0.99, 25.0))
    assert not game.standing()
    game.tick(LEAP, 430.0)
    assert (game.vx, game.vy) == pytest.approx((30 * 0.99**2, 25 - 0.49))
    assert game.y == pytest.approx(41.25 + (25 - 0.49) * 0.05)
    slow = 100 / (2 * 25 / 9.8 + 1)
    game._start()
    game.tick(LEAP, 100.0)
    assert game.vx == pytest.approx(slow * 0.99)
    game._start()
    game.tick(HOP, 100.0)
    assert (game.vx, game.vy) == pytest.approx((100 / (2 * 35 / 9.8 + 1) * 0.99, 35.0))


def test_a_run_lasts_a_second_and_a_jump_until_it_lands(game: Platform) -> None:
    result = game._decide(RUN, (2.0,))
    speed, place = 0.0, 0.0
    for _ in range(20):
        speed = min(speed + 2.0, 70.0)
        place, speed = place + speed * 0.05, speed * 0.99
    assert (game.x, game.vx) == pytest.approx((place, speed))
    assert result.reward == pytest.approx(place / GOAL)
    before, game.enemies[0] = game.x, [229.0, 0.0]
    result = game._decide(LEAP, (50.0,))
    assert game.standing()
    assert (game.y, game.vx, game.vy) == (40.0, 0.0, 0.0)  # a landing stops
    assert result.reward == pytest.approx((game.x - before) / GOAL)


def test_noise_slows_and_never_reverses() -> None:
    env = make(CONFIG, 0).unwrapped
    assert isinstance(env, Platform)
    env.reset(seed=0)
    env.tick(RUN, 10.0)
    assert 9.5 < env.vx < 9.9
    env.reset(seed=0)
    env.tick(RUN, 0.0)
    assert env.vx == 0.0


def test_only_the_enemy_of_the_players_part_moves_and_it_turns_at_the_ends(game: Platform) -> None:
    first, second = ([left + width - 20, -30.0] for left, width in PLATFORMS[:2])
    assert game.enemies == [first, second]
    game.tick(RUN, 0.0)  # it starts at the right end, so it turns at once, and is held there
    assert game.enemies == [[230.0, 30.0], second]
    game.tick(RUN, 0.0)
    assert game.enemies == [[230.0 - 1.5, -30.0], second]
    game.x = 500.0
    game.tick(RUN, 0.0)
    assert game.enemies[0] == [228.5, -30.0]
    assert game.enemies[1] == [730.0, 30.0]


@pytest.mark.parametrize(("x", "alive"), [(208.9, True), (209.1, False), (248.9, False), (249.1, True)])
def test_the_enemy_kills_what_it_overlaps(game: Platform, x: float, alive: bool) -> None:
    game.x = x
    game.enemies[0] = [229.0, 0.0]
    assert game.tick(RUN, 0.0) != alive


def test_who_falls_between_platforms_is_out_and_keeps_what_was_won(game: Platform) -> None:
    game.enemies[0][0] = 0.0  # out of the way
    game.x, game.vx = 240.0, 70.0
    result = game._decide(RUN, (30.0,))
    assert (result.terminated, result.success) == (True, False)
    assert game.y < 40.0
    assert result.reward == pytest.approx((game.x - 240.0) / GOAL)


def test_the_side_of_a_platform_stops_and_the_top_carries(game: Platform) -> None:
    game.x, game.y, game.vx, game.vy = 454.9, 39.0, 60.0, -1.0  # 2.9 into the side after a tick, 1.05 below its top
    game.tick(LEAP, 0.0)
    assert (game.y, game.vx) == (40.0, 0.0)
    game.x, game.y, game.vx, game.vy = 454.9, 30.0, 10.0, 0.0  # 0.4 into the side, 10 below the top
    assert game.tick(LEAP, 0.0)
    assert (game.x, game.vx) == (455.0, 0.0)


def test_the_goal_terminates_with_the_rest_of_the_way(game: Platform) -> None:
    game.x, game.vx = 1000.0, 70.0
    game.enemies[1][0] = 475.0
    result = game._decide(RUN, (30.0,))
    assert (result.terminated, result.success) == (True, True)
    assert result.reward == pytest.approx(35 / GOAL)


def test_the_state_is_scaled_to_the_unit_box(game: Platform) -> None:
    unscaled = [20 / 1055, 0.0, 230 / 1035, 0.0, 250 / 275, 1.0, 225 / 235, 0.0, 0.0]
    assert game._state() == pytest.approx([2 * v - 1 for v in unscaled])
    game.x = 480.0
    assert game._state()[2:] == pytest.approx(
        [2 * v - 1 for v in (730 / 1035, 0.0, 1.0, 50 / 275, 1.0, 475 / 1035, 0.0)]
    )
    game.x = 1000.0
    assert game._state()[5:7] == [-1.0, -1.0]  # nothing follows the last platform


def episodes(count: int, act: Callable[[np.random.Generator, np.ndarray], list[float]]) -> list[float]:
    env, rng, returns = make(CONFIG, 0), np.random.default_rng(0), []
    for seed in range(count):
        state, total, over = env.reset(seed=seed)[0]["state"], 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(np.array(act(rng, state)))
            state, total, over = observation["state"], total + float(reward), terminated or truncated
        returns.append(total)
    return returns


def test_random_play_gets_what_was_measured_of_the_original() -> None:
    """0.153 over 2500 episodes of the published code; ours has a standard error of 0.002."""
    returns = episodes(2500, lambda rng, state: list(rng.uniform(-1, 1, 6)))
    assert np.mean(returns) == pytest.approx(0.15, abs=0.02)


def leap_at_the_edge(rng: np.random.Generator, state: np.ndarray) -> list[float]:
    """Hop over the first enemy, run, leap where the platform ends."""
    x = (state[0] + 1) / 2 * 1055 - 20
    end = (state[7] + 1) / 2 * 1035 + (state[4] + 1) / 2 * 275
    if x < 20:
        return [0, 1, 0, 0, 2 * 228 / 720 - 1, 0]
    return [0, 0, 1, 0, 0, 1] if end - x < 25 else [1, 0, 0, 1, 0, 0]


def test_a_script_that_leaps_at_the_edge_gets_over_the_first_gap() -> None:
    assert np.mean(episodes(200, leap_at_the_edge)) > 0.4
