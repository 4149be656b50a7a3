"""LIBERO as it is published, in its own interpreter; where that or the assets are absent, this says so and skips."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from actors.envs import libero
from actors.envs.registry import EnvConfig, info_of, make, tasks
from actors.experts import expert
from actors.experts.libero import TASKS
from actors.hosting.interpreters import interpreter
from replay.errors import BadInput, Missing

Host = Callable[..., gymnasium.Env]


@pytest.fixture(scope="module")  # they take seconds to make
def libero_env() -> Iterator[Host]:
    try:
        interpreter("libero")
    except Missing as missing:
        pytest.skip(str(missing))
    if not (Path(os.environ.get("DISTWM_LIBERO_ASSETS", "")) / "scenes").is_dir():
        pytest.skip("DISTWM_LIBERO_ASSETS names no folder of LIBERO's assets")
    made: dict[EnvConfig, gymnasium.Env] = {}

    def build(task: str = "libero_spatial/0", **settings) -> gymnasium.Env:
        config = EnvConfig(task=f"libero/{task}", **{"image_size": 32, "render_size": 64} | settings)
        if config not in made:
            made[config] = make(config, 0)
        return made[config]

    yield build
    for env in made.values():
        env.close()


def test_there_are_130_tasks() -> None:
    assert len(tasks("libero")) == 130
    with pytest.raises(BadInput, match="Did you mean 'libero_spatial/"):
        make(EnvConfig(task="libero/libero_spatail/0"), 0)
    with pytest.raises(BadInput, match="no multiple of image_size"):
        make(EnvConfig(task="libero/libero_goal/0", image_size=64, render_size=96), 0)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISTWM_ENVS", str(tmp_path))
    with pytest.raises(Missing, match="libero is not installed") as caught:
        make(EnvConfig(task="libero/libero_goal/0"), 0)
    assert caught.value.mend == "Run: python -m distwm.envs install libero"


def test_assets_that_are_missing(libero_env: Host, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="LIBERO's assets are not in"):
        libero_env(assets=str(tmp_path))
    (tmp_path / "scenes").mkdir()
    with pytest.raises(Missing, match=r"lack a file of this task: .*\.xml"):
        libero_env(assets=str(tmp_path), pixels=False)


def test_fields_info_and_pictures(libero_env: Host) -> None:
    env = libero_env()
    assert info_of(env).task_text.startswith("pick up the black bowl between the plate and the ramekin")
    assert (info_of(env).fps, info_of(env).max_steps) == (20.0, 220)
    told = env.unwrapped.attributes
    assert told["preprocess"] == ["rotate180"]
    names = [name for name, _ in told["state_fields"]]
    assert names[5:9:2] == ["akita_black_bowl_1_pos", "plate_1_pos"]
    observation, info = env.reset(seed=1)
    assert observation["agentview"].shape == observation["wrist"].shape == (32, 32, 3)
    assert observation["state"].shape == (sum(size for _, size in told["state_fields"]),)
    assert 0 <= info["init_state"] < 50
    assert env.render().shape == (64, 64, 3)
    table, wall = env.render()[40:].mean(), env.render()[:12].mean()
    assert table > wall + 20  # the bright table is below
    assert len(np.unique(observation["wrist"])) > 20
    assert env.step(np.zeros(7, np.float32))[-1]["success"] is False


def test_seeds_and_initial_states(libero_env: Host) -> None:
    """A reset without a new model, as ours is, forgets nothing: it gives the bits of another environment."""
    env = libero_env(pixels=False)

    def play(env: gymnasium.Env, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        first = env.reset(seed=seed)[0]
        steps = [env.step(rng.uniform(-1, 1, 7).astype(np.float32))[0] for _ in range(8)]
        return np.stack([first["state"], *(step["state"] for step in steps)])

    once, other, again = play(env, 5), play(env, 6), play(env, 5)
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
    np.testing.assert_array_equal(once, play(libero_env(), 5))  # pictures change no motion
    bowls = [env.reset(seed=0, options={"init_state": number})[0]["state"][18:21] for number in (0, 1)]
    assert not np.allclose(*bowls)
    with pytest.raises(BadInput, match="no initial state 50"):
        env.reset(options={"init_state": 50})


def test_an_episode_ends_at_its_limit(libero_env: Host) -> None:
    env = libero_env(pixels=False, time_limit_s=0.2)
    env.reset(seed=0)
    ends = [env.step(np.zeros(7, np.float32))[2:4] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(False, True)]


def test_every_suite_says_its_limit() -> None:
    assert {suite: limit for suite, (_, limit) in libero.SUITES.items()} == {
        "libero_spatial": 220,
        "libero_object": 280,
        "libero_goal": 300,
        "libero_10": 520,
        "libero_90": 400,
    }


def solved(env: gymnasium.Env, task: str, number: int) -> bool:
    observation, info = env.reset(seed=0, options={"init_state": number})
    for _ in range(info_of(env).max_steps):
        observation, reward, terminated, _, info = env.step(expert(task)(observation["state"]))
        if terminated:
            assert (reward, info["success"]) == (1.0, True)
            return True
    return False


def test_the_expert_solves_a_task(libero_env: Host) -> None:
    assert solved(libero_env("libero_goal/8", pixels=False), "libero/libero_goal/8", 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_nine_of_ten(libero_env: Host, task: str) -> None:
    env = libero_env(task, pixels=False)
    assert sum(solved(env, f"libero/{task}", number) for number in range(20)) >= 18
