"""What all games of the hybrid suite have in common."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from actors.envs.flat_action import native_action_space
from actors.envs.registry import EnvConfig, info_of, make, tasks
from replay.errors import BadInput

TASKS = tasks("hybrid")


def play(task: str, seed: int, decisions: int = 30, built_with: int = 0, **settings: object) -> list:
    env = make(EnvConfig(task=task, **{"pixels": False} | settings), built_with)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    found: list = [env.reset(seed=seed)[0]["state"].tolist()]
    for _ in range(decisions):
        observation, reward, terminated, truncated, info = env.step(rng.uniform(-1, 1, env.action_space.shape))
        found.append((observation["state"].tolist(), reward, terminated, truncated, info["success"]))
        if terminated or truncated:
            found.append(env.reset()[0]["state"].tolist())
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", TASKS)
def test_keeps_the_contract_of_gymnasium(task: str) -> None:
    env = make(EnvConfig(task=task, image_size=16), 0)
    check_env(env, skip_render_check=True)
    frame = env.reset(seed=0)[0]["image"]
    assert frame.std() > 5
    assert env.render().shape == (96, 96, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_is_fixed_by_the_seed_of_its_reset(task: str) -> None:
    assert play(task, 3) == play(task, 3, built_with=8)
    assert play(task, 3) != play(task, 4)


@pytest.mark.parametrize("task", TASKS)
def test_looking_changes_nothing(task: str) -> None:
    assert play(task, 3) == play(task, 3, pixels=True)


def test_the_limits_are_those_of_the_papers() -> None:
    limits = {task: info_of(make(EnvConfig(task=task), 0)).max_steps for task in TASKS}
    assert limits == dict.fromkeys(TASKS, 30) | {
        "hybrid/platform": 200,
        "hybrid/goal": 100,
        "hybrid/hard_goal": 100,
        "hybrid/catch_point": 25,
    }


def test_a_shorter_limit_truncates() -> None:
    env = make(EnvConfig(task="hybrid/hard_move_4", time_limit_s=0.3), 0)
    env.reset(seed=1)
    idle = np.zeros(env.action_space.shape, np.float32)
    assert [env.step(idle)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize(
    ("task", "choices", "width"),
    [
        ("platform", 3, 3 + 3),
        ("goal", 3, 3 + 4),
        ("hard_goal", 11, 11 + 12),
        ("catch_point", 2, 2 + 1),
        ("hard_move_4", 16, 16 + 1),
        ("hard_move_10", 1024, 1024 + 1),
        ("simple_move", 17, 17 + 1),
    ],
)
def test_actions_are_a_choice_and_its_numbers(task: str, choices: int, width: int) -> None:
    env = make(EnvConfig(task=f"hybrid/{task}"), 0)
    native = native_action_space(env)
    assert isinstance(native, spaces.Tuple)
    assert native[0] == spaces.Discrete(choices)
    assert env.action_space == spaces.Box(-1.0, 1.0, (width,), np.float32)


@pytest.mark.parametrize(
    ("task", "words"),
    [("hybrid/platfrom", "'platform'"), ("hybrid/goal@scalar", "'scalar_kick'"), ("hybrid/platform@x", "")],
)
def test_unknown_names_are_refused(task: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        make(EnvConfig(task=task), 0)
    assert words in caught.value.mend
