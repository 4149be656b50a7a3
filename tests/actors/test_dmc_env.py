from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from actors.envs.registry import EnvConfig, episode_spec, info_of, make
from replay.errors import BadInput, Missing

PIXELS = EnvConfig(task="dmc/cartpole_balance", time_limit_s=0.4)


def play(config: EnvConfig, seed: int, decisions: int = 5) -> list[dict]:
    env = make(config, seed=0)
    rng = np.random.default_rng(seed)
    found = [env.reset(seed=seed)[0]]
    for _ in range(decisions):
        observation, reward, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        found.append({**observation, "reward": reward})
    env.close()
    return found


@pytest.mark.filterwarnings("ignore")
def test_keeps_the_contract_of_gymnasium() -> None:
    env = make(PIXELS, seed=0)
    check_env(env, skip_render_check=True)
    env.close()


def test_same_seed_same_pixels_and_state() -> None:
    for first, second in zip(play(PIXELS, seed=3), play(PIXELS, seed=3), strict=True):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(play(PIXELS, seed=3)[0]["state"], play(PIXELS, seed=4)[0]["state"])


def test_state_is_the_same_without_pixels() -> None:
    for seen, blind in zip(play(PIXELS, seed=1), play(replace(PIXELS, pixels=False), seed=1), strict=True):
        assert set(seen) - set(blind) == {"image"}
        np.testing.assert_array_equal(seen["state"], blind["state"])


def test_repeats_actions_sums_rewards_and_truncates_at_the_limit() -> None:
    repeats = []
    for repeat in (1, 4):
        env = make(replace(PIXELS, pixels=False, action_repeat=repeat), seed=0)
        env.reset(seed=0)
        steps = [env.step(np.array([0.3], np.float32)) for _ in range(40 // repeat)]
        assert [truncated for *_, truncated, _ in steps] == [False] * (len(steps) - 1) + [True]
        assert not any(terminated for _, _, terminated, _, _ in steps)
        repeats.append((steps[-1][0]["state"], sum(step[1] for step in steps)))
    np.testing.assert_allclose(repeats[0][0], repeats[1][0], rtol=1e-6)
    assert repeats[0][1] == pytest.approx(repeats[1][1])


def test_rescales_actions_to_the_bounds_of_the_task() -> None:
    """`lqr` has no bounds worth scaling; `fish` has; a full action must reach the actuator's limit."""
    env = make(EnvConfig(task="dmc/fish_swim", pixels=False, time_limit_s=1.0), seed=0)
    env.reset(seed=0)
    env.step(np.ones(env.action_space.shape, np.float32))
    inner = env.unwrapped._env  # type: ignore[attr-defined]
    np.testing.assert_allclose(inner.physics.data.ctrl, inner.action_spec().maximum)


def test_image_is_the_box_average_of_the_rendered_frame() -> None:
    env = make(PIXELS, seed=0)
    image = env.reset(seed=0)[0]["image"]
    frame = np.asarray(env.render(), np.float64)
    np.testing.assert_array_equal(image, np.rint(frame.reshape(32, 3, 32, 3, 3).mean((1, 3))))
    assert image.std() > 5
    env.close()


def test_the_field_of_view_and_the_camera_change_the_picture() -> None:
    plain = play(PIXELS, 0, 0)[0]["image"]
    assert not np.array_equal(plain, play(replace(PIXELS, fovy=30.0), 0, 0)[0]["image"])
    assert not np.array_equal(plain, play(replace(PIXELS, camera=1), 0, 0)[0]["image"])


def test_angles_that_wrap_are_given_as_cos_and_sin() -> None:
    observation = play(replace(PIXELS, pixels=False, task="dmc/reacher_easy"), 0, 0)[0]
    shoulder, wrist = observation["state"][:2]
    np.testing.assert_allclose(observation["qpos"], [wrist, np.cos(shoulder), np.sin(shoulder)], rtol=1e-5)


def test_spec_needs_no_renderer() -> None:
    code = "from actors.envs.registry import *; print(episode_spec(EnvConfig()).hash)"
    environment = os.environ | {"MUJOCO_GL": "disable"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == episode_spec(EnvConfig()).hash, done.stderr


def test_every_task_of_the_spec_fits_its_observations() -> None:
    spec = episode_spec(PIXELS)
    assert spec["image"].shape == (32, 32, 3)
    assert spec["action"].shape == (1,)
    first = play(PIXELS, 0, 0)[0]
    assert {f.name: (f.shape, f.dtype) for f in spec.observations} == {
        name: (array.shape, array.dtype.name) for name, array in first.items()
    }


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (EnvConfig(task="dmc/cartpole_swinup"), "'cartpole_swingup'"),
        (EnvConfig(task="dcm/cartpole_swingup"), "'dmc'"),
        (EnvConfig(task="cartpole_swingup"), "suite/task"),
        (EnvConfig(image_size=36), "env.render_size to 108"),
        (EnvConfig(action_repeat=0), "env.action_repeat"),
        (EnvConfig(task="counting/0"), "counting/10"),
        (EnvConfig(task="faulty/kil@0.1"), "'kill'"),
    ],
)
def test_bad_configurations_name_the_mend(config: EnvConfig, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        make(config, seed=0)
    assert words in caught.value.mend


HIDDEN = """
import ctypes, ctypes.util
class CDLL(ctypes.CDLL):
    def __init__(self, name, *args, **kwargs):
        if "OSMesa" in str(name):
            raise OSError(f"{name}: cannot open shared object file")
        super().__init__(name, *args, **kwargs)
find = ctypes.util.find_library
ctypes.CDLL, ctypes.cdll = CDLL, ctypes.LibraryLoader(CDLL)
ctypes.util.find_library = lambda name: None if name == "OSMesa" else find(name)
"""


@pytest.mark.parametrize(("before", "backend"), [(HIDDEN, "osmesa"), ("", "disable"), ("", "glfw"), ("", "nonsense")])
def test_a_missing_gl_library_names_the_package(before: str, backend: str) -> None:
    code = f"""{before}
from actors.envs.registry import EnvConfig, make
from replay.errors import Missing
try:
    make(EnvConfig(), 0).reset()
except Missing as error:
    print(error.exit_code, error)
"""
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"} | {"MUJOCO_GL": backend}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"{Missing.exit_code} "), done.stderr
    assert "apt-get install --no-install-recommends libosmesa6" in done.stdout


def test_environments_are_gymnasium_environments() -> None:
    assert isinstance(make(EnvConfig(task="counting/3"), 0), gymnasium.Env)


def test_the_linear_regulator_gets_the_bounds_and_the_limit_that_it_lacks() -> None:
    env = make(EnvConfig(task="dmc/lqr_lqr_2_1", pixels=False), seed=0)
    assert info_of(env).max_steps == 250
    env.reset(seed=0)
    env.step(np.ones(1, np.float32))
    inner = env.unwrapped._env  # type: ignore[attr-defined]
    np.testing.assert_array_equal(inner.physics.data.ctrl, [1.0])


def test_says_what_it_is() -> None:
    info = info_of(make(PIXELS, seed=0))
    assert (info.task_text, info.max_steps) == ("cartpole balance", 10)
    assert info.fps == pytest.approx(25.0)
    assert info_of(make(EnvConfig(task="dmc/walker_walk", action_repeat=3), 0)).max_steps == 334
