"""Atari by the protocol of Atari 100k, against the bare emulator."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from actors.envs.flat_action import native_action_space
from actors.envs.registry import EnvConfig, info_of, make, tasks
from replay.errors import BadInput

ale_py = pytest.importorskip("ale_py")
PONG = EnvConfig(task="atari/pong", image_size=64)
HARD_TO_RESET = ("qbert", "tetris", "assault", "solaris")  # a console's reset alone, or a restored state alone, misses


def play(config: EnvConfig, seed: int, decisions: int, before: int = 0, built_with: int = 0) -> list:
    env = make(config, built_with)
    rng = np.random.default_rng(99)
    env.reset(seed=7)
    for _ in range(before):
        if env.step(rng.uniform(-1, 1, env.action_space.shape))[2]:
            env.reset()
    rng = np.random.default_rng(seed)
    found: list = [env.reset(seed=seed)[0]]
    for _ in range(decisions):
        observation, *rest = env.step(rng.uniform(-1, 1, env.action_space.shape))
        found.append((observation, rest[:3], rest[3]["lives"]))
        if rest[1]:
            break
    return found


def same(first: list, second: list) -> bool:
    states = [(one[0]["state"], other[0]["state"]) for one, other in zip(first[1:], second[1:], strict=True)]
    return all((one == other).all() for one, other in states) and [f[1:] for f in first[1:]] == [
        s[1:] for s in second[1:]
    ]


@pytest.mark.filterwarnings("ignore")
def test_keeps_the_contract_of_gymnasium() -> None:
    check_env(make(PONG, 0), skip_render_check=True)


@pytest.mark.parametrize("name", [*HARD_TO_RESET, "pong@sticky"])
def test_an_episode_is_fixed_by_its_seed_whatever_came_before(name: str) -> None:
    config = EnvConfig(task=f"atari/{name}", pixels=False)
    assert same(play(config, 3, 60), play(config, 3, 60, before=400, built_with=5))


def test_seeds_differ_by_their_no_ops_and_by_what_sticks() -> None:
    starts = {make(PONG, 0).reset(seed=seed)[0]["state"].tobytes() for seed in range(12)}
    assert len(starts) > 6
    sticky = EnvConfig(task="atari/pong@sticky", pixels=False)
    first, second = (make(sticky, seed) for seed in (1, 2))
    for env in (first, second):
        env.reset()
        env.step(np.eye(6)[2])
    different = False
    for _ in range(40):
        states = [env.step(np.eye(6)[2 + _ % 2])[0]["state"] for env in (first, second)]
        different |= bool((states[0] != states[1]).any())
    assert different


def test_a_decision_is_four_frames_and_the_picture_the_maximum_of_the_last_two() -> None:
    env = make(EnvConfig(task="atari/pong", image_size=160), 0)
    env.reset(seed=3)
    inner = env.unwrapped
    bare = ale_py.ALEInterface()
    bare.setFloat("repeat_action_probability", 0.0)
    bare.setInt("random_seed", 0)
    bare.loadROM(inner._path)  # type: ignore[attr-defined]
    bare.reset_game()
    for _ in range(inner._ale.getEpisodeFrameNumber() - bare.getEpisodeFrameNumber()):  # type: ignore[attr-defined]
        bare.act(0)
    total, actions = 0.0, bare.getMinimalActionSet()
    for step in range(60):
        observation, reward, *_ = env.step(np.eye(6)[step % 6])
        total += float(reward)
        for _ in range(4):
            before = bare.getScreenRGB()
            total -= bare.act(actions[step % 6])
        both = np.maximum(before, bare.getScreenRGB()).astype(float)
        np.testing.assert_array_equal(observation["state"] * 255, bare.getRAM())
        np.testing.assert_allclose(observation["image"].mean((0, 1)), both.mean((0, 1)), atol=0.6)
    assert total == 0.0


def test_a_decision_of_one_frame_shows_that_frame() -> None:
    env = make(EnvConfig(task="atari/pong", image_size=210, action_repeat=1), 0)
    env.reset(seed=0)
    for step in range(120):
        observation, *_ = env.step(np.eye(6)[step % 6])
    shown, screen = observation["image"].astype(float), env.render()
    np.testing.assert_allclose(shown.mean((0, 1)), screen.mean((0, 1)), atol=0.6)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("task", "actions", "channels"),
    [("breakout", 4, 3), ("breakout@full", 18, 3), ("breakout@gray", 4, 1), ("breakout@full+gray", 18, 1)],
)
def test_variants(task: str, actions: int, channels: int) -> None:
    env = make(EnvConfig(task=f"atari/{task}", image_size=84), 0)
    assert native_action_space(env) == spaces.Discrete(actions)
    image = env.reset(seed=0)[0]["image"]
    assert image.shape == (84, 84, channels)
    assert image.std() > 5


def test_lives_are_told_and_the_end_of_the_game_terminates() -> None:
    env = make(EnvConfig(task="atari/breakout", pixels=False), 0)
    _, info = env.reset(seed=0)
    lives, lost = info["lives"], 0
    while True:
        _, _, terminated, truncated, info = env.step(np.eye(4)[1])
        assert info["life_lost"] == (info["lives"] < lives)
        lives, lost = info["lives"], lost + info["life_lost"]
        if terminated or truncated:
            break
    assert (terminated, truncated, lives, lost) == (True, False, 0, 5)


def test_the_limit_is_108000_frames() -> None:
    info = info_of(make(EnvConfig(task="atari/ms_pacman", pixels=False), 0))
    assert (info.max_steps, info.fps, info.task_text) == (27_000, 15.0, "play ms pacman for points")
    env = make(EnvConfig(task="atari/pong", pixels=False, time_limit_s=0.2), 0)
    env.reset(seed=0)
    assert [env.step(np.zeros(6))[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_games_for_two_are_left_out() -> None:
    assert "atari/combat" not in tasks("atari")
    assert len(tasks("atari")) == 104
    with pytest.raises(BadInput):
        make(EnvConfig(task="atari/combat"), 0)
