"""Crafter behind the registry: seeds that hold, pictures that change nothing, the achievements."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

from actors.behaviour import Random
from actors.envs.flat_action import native_action_space
from actors.envs.registry import EnvConfig, info_of, make
from actors.rollout import rollout
from replay.errors import BadInput

pytest.importorskip("crafter")
CONFIG = EnvConfig(task="crafter/reward", image_size=18, render_size=32)
BLIND = EnvConfig(task="crafter/reward", pixels=False)
LEFT, RIGHT, DO, SLEEP = 1, 2, 5, 6


def one_hot(action: int) -> np.ndarray:
    return np.eye(17, dtype=np.float32)[action]


def play(env: gymnasium.Env, seed: int, actions: Sequence[int], look: bool = False) -> list:
    found: list = [env.reset(seed=seed)[0]]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(one_hot(action))
        world = env.unwrapped._game._world  # type: ignore[attr-defined]
        beings = [(type(thing).__name__, tuple(thing.pos)) for thing in world.objects]
        found.append((observation, reward, terminated, truncated, info["achievements"], beings))
        if look:
            env.render()
        if terminated or truncated:
            break
    return found


def same(first: list, second: list) -> None:
    assert len(first) == len(second)
    for one, other in zip(first[1:], second[1:], strict=True):
        assert one[1:] == other[1:]
        for name in one[0].keys() & other[0].keys():
            np.testing.assert_array_equal(one[0][name], other[0][name])


@pytest.fixture(scope="module")
def actions() -> list[int]:
    """Enough of a life to see night fall and creatures come and go."""
    return np.random.default_rng(0).integers(0, 17, 260).tolist()


def test_an_episode_is_fixed_by_its_seed_whoever_looks(actions: list[int]) -> None:
    seen = play(make(CONFIG, 0), 3, actions)
    same(seen, play(make(CONFIG, 5), 3, actions, look=True))
    same(seen, play(make(BLIND, 5), 3, actions))


def test_another_seed_is_another_world() -> None:
    env = make(CONFIG, 0)
    assert not np.array_equal(play(env, 1, [])[0]["image"], play(env, 2, [])[0]["image"])


def test_observations_and_actions() -> None:
    env = make(CONFIG, 0)
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert observation["image"].std() > 10
    np.testing.assert_allclose(observation["state"][:4], 1.0)  # health, food, drink and energy are full
    assert not observation["state"][4:].any()
    assert native_action_space(env) == gymnasium.spaces.Discrete(17)
    assert env.render().shape == (32, 32, 3)  # type: ignore[union-attr]
    assert not info["success"]
    assert info_of(env).max_steps == 10_000


def test_a_diamond_is_success() -> None:
    env = make(BLIND, 0)
    env.reset(seed=0)
    game = env.unwrapped._game  # type: ignore[attr-defined]
    assert not env.step(one_hot(0))[4]["success"]
    game._player.achievements["collect_diamond"] = 1
    _, reward, _, _, info = env.step(one_hot(0))
    assert info["success"]
    assert reward == pytest.approx(1.0)


def test_death_terminates_and_the_limit_truncates() -> None:
    env = make(BLIND, 0)
    env.reset(seed=0)
    env.unwrapped._game._player.health = -100  # type: ignore[attr-defined]
    assert env.step(one_hot(0))[2:4] == (True, False)
    env = make(EnvConfig(task="crafter/reward", pixels=False, time_limit_s=0.3), 0)
    env.reset(seed=0)
    assert [env.step(one_hot(0))[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_without_rewards() -> None:
    env = make(EnvConfig(task="crafter/noreward", pixels=False), 0)
    env.reset(seed=0)
    env.unwrapped._game._player.achievements["collect_wood"] = 1  # type: ignore[attr-defined]
    assert env.step(one_hot(0))[1] == 0.0


@pytest.mark.parametrize("config", [EnvConfig(task="crafter/craft"), EnvConfig(task="crafter/reward", image_size=16)])
def test_bad_configurations_are_refused(config: EnvConfig) -> None:
    with pytest.raises(BadInput):
        make(config, 0)


def test_milestones_of_an_episode_are_kept() -> None:
    env = make(BLIND, 0)

    class Sleeper(Random):
        def act(self, observation, carry, mode="sample"):
            return one_hot(SLEEP)[None], carry

    (outcome,) = rollout([TimeLimit(env, 30)], Sleeper(17), [0], agent_seed=0)
    assert len(outcome.milestones) == 22
    assert not outcome.milestones["collect_diamond"]
