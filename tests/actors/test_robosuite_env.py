"""robosuite in its own interpreter; where that is absent, this says so and skips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from actors.envs.registry import EnvConfig, info_of, make, tasks
from actors.experts import expert
from actors.hosting.interpreters import interpreter
from replay.errors import BadInput, Missing

Host = Callable[..., gymnasium.Env]


@pytest.fixture(scope="module")  # they take seconds to make
def robosuite_env() -> Iterator[Host]:
    try:
        interpreter("robosuite")
    except Missing as missing:
        pytest.skip(str(missing))
    made: dict[EnvConfig, gymnasium.Env] = {}

    def build(task: str, **settings) -> gymnasium.Env:
        config = EnvConfig(task=f"robosuite/{task}", **{"image_size": 32, "render_size": 64} | settings)
        if config not in made:
            made[config] = make(config, 0)
        return made[config]

    yield build
    for env in made.values():
        env.close()


def test_the_tasks_and_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tasks("robosuite") == [f"robosuite/{name}" for name in ("Door", "Lift", "PickPlace", "Stack")]
    with pytest.raises(BadInput, match="Did you mean 'Lift'"):
        make(EnvConfig(task="robosuite/Lft"), 0)
    monkeypatch.setenv("DISTWM_ENVS", str(tmp_path))
    with pytest.raises(Missing, match="robosuite is not installed"):
        make(EnvConfig(task="robosuite/Lift"), 0)


def test_fields_info_and_pictures(robosuite_env: Host) -> None:
    env = robosuite_env("Lift")
    assert (info_of(env).task_text, info_of(env).fps, info_of(env).max_steps) == ("lift the red cube", 20.0, 500)
    observation, info = env.reset(seed=1)
    assert info == {"success": False}
    assert observation["agentview"].shape == observation["wrist"].shape == (32, 32, 3)
    names = [name for name, _ in env.unwrapped.attributes["state_fields"]]
    assert names[5:] == ["cube_pos", "cube_quat", "gripper_to_cube_pos"]
    np.testing.assert_allclose(
        observation["state"][25:28], observation["state"][18:21] - observation["state"][0:3], atol=1e-3
    )
    frame = env.render().astype(int)
    red = (frame[..., 0] > 2 * frame[..., 1]) & (frame[..., 0] > 80)
    assert red.any()  # the cube
    assert np.argwhere(red)[:, 0].mean() > 32  # upright: it lies on the table, in the lower half


def test_seeds_and_other_environments_agree_to_the_bit(robosuite_env: Host) -> None:
    def play(env: gymnasium.Env, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        first = env.reset(seed=seed)[0]
        steps = [env.step(rng.uniform(-1, 1, 7).astype(np.float32))[0] for _ in range(8)]
        return np.stack([first["state"], *(step["state"] for step in steps)])

    env = robosuite_env("Stack", pixels=False)
    once, other, again = play(env, 5), play(env, 6), play(env, 5)
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
    np.testing.assert_array_equal(once, play(robosuite_env("Stack"), 5))


@pytest.mark.parametrize("task", ["Door", "PickPlace", "Lift@sparse"])
def test_other_tasks_step_to_their_limit(robosuite_env: Host, task: str) -> None:
    env = robosuite_env(task, pixels=False, time_limit_s=0.15)
    observation, _ = env.reset(seed=0)
    assert observation.keys() == {"proprio", "state"}
    steps = [env.step(env.action_space.sample()) for _ in range(3)]
    assert [step[2:4] for step in steps] == [(False, False)] * 2 + [(False, True)]
    assert all(0.0 <= step[1] <= 1.0 for step in steps)
    assert "sparse" not in task or all(step[1] == 0.0 for step in steps)


def solved(env: gymnasium.Env, task: str, seed: int) -> bool:
    observation, info = env.reset(seed=seed)
    for _ in range(150):
        observation, _, _, _, info = env.step(expert(task)(observation["state"]))
        if info["success"]:
            return True
    return False


@pytest.mark.parametrize("task", ["Lift", "Stack"])
def test_the_expert_solves_a_task(robosuite_env: Host, task: str) -> None:
    assert solved(robosuite_env(task, pixels=False), f"robosuite/{task}", 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("task", ["Lift", "Stack"])
def test_the_expert_solves_nine_of_ten(robosuite_env: Host, task: str) -> None:
    env = robosuite_env(task, pixels=False)
    assert sum(solved(env, f"robosuite/{task}", seed) for seed in range(20)) >= 18
