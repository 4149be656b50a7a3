"""The check of the contract, against environments that break it in one way each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from actors.check import brief, check
from actors.contract import CheckConfig
from actors.envs import registry
from actors.envs.registry import EnvConfig, limit_steps
from replay.errors import BadInput, Missing

QUICK = CheckConfig(decisions=10, limit=5, measure_s=0.01)
BROKEN = {
    "text": "task_text is ''",
    "fps": "fps is 0.0",
    "max_steps": "not a number of decisions",
    "actions": "actions are Box(-2.0, 2.0",
    "field": "'state' is (3,) float32, not Box",
    "dtype": "'state' is (2,) float64",
    "missing field": "an observation has ['image'], not ['image', 'state']",
    "nan": "'state' is not finite",
    "bounds": "'state' leaves its bounds",
    "reward": "a reward is nan",
    "flags": "not booleans",
    "success": "success is 1",
    "unseeded": "the same seed and actions give another episode: 'state' at step 0",
    "leaks": "the same seed and actions give another episode",
    "constant": "four seeds give the same episode",
    "reuses": "later steps changed 'state' of an earlier observation",
    "blind": "with pixels the episode is another",
    "looking": "render() changes the episode: 'state' at step 1",
    "endless": "goes on after max_steps=5",
    "both": "ends both terminated and truncated",
    "deaf": "time_limit_s does not shorten an episode of 5000 decisions",
    "dark": "render() gives a picture of one colour",
    "flat": "render() gives (8, 8), not (H, W, 3) uint8",
    "crash": "it broke when tried whether it keeps to its spaces: RuntimeError: the simulator crashed",
    "close": "it broke when tried whether it ends when closed: RuntimeError: closed twice",
}


class Walk(gymnasium.Env):
    """A random walk that is well behaved, but for what its task names."""

    render_mode = "rgb_array"

    def __init__(self, config: EnvConfig, seed: int) -> None:
        self.config, self.fault = config, config.task.partition("/")[2]
        if self.fault == "absent":
            raise Missing("The walk is not installed.", "Run `pip install walk`.")
        self.task_text = "" if self.fault == "text" else "walk"
        self.fps = 0.0 if self.fault == "fps" else 10.0
        limit = EnvConfig() if self.fault == "deaf" else config
        self.max_steps: Any = 2.5 if self.fault == "max_steps" else limit_steps(limit, 10.0, 5000)
        self.rng, self.closed = np.random.default_rng(seed), False
        high = 2.0 if self.fault == "actions" else 1.0
        self.action_space = spaces.Box(-high, high, (2,), np.float32)
        fields: dict[str, spaces.Space] = {"state": spaces.Box(-9.0, 9.0, (2,), np.float32)}
        if config.pixels:
            fields["image"] = spaces.Box(0, 255, (8, 8, 3), np.uint8)
        self.observation_space = spaces.Dict(fields)
        self.out = np.zeros(2, np.float32)
        self.past = 0.0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        if seed is not None and self.fault != "unseeded":
            self.rng = np.random.default_rng(0 if self.fault == "constant" else seed)
        self.steps, self.place = 0, self.rng.uniform(-1, 1, 2)
        return self.observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict, Any, Any, bool, dict]:
        if self.fault == "crash":
            raise RuntimeError("the simulator crashed")
        self.steps += 1
        self.place = np.clip(self.place + 0.1 * np.asarray(action, np.float64) + self.rng.normal(0, 0.1, 2), -8, 8)
        self.past += 1e-3
        over = self.steps >= self.max_steps and self.fault != "endless"
        terminated: Any = 0 if self.fault == "flags" else over and self.fault == "both"
        reward = np.nan if self.fault == "reward" else 1.0
        info = {"success": 1 if self.fault == "success" else False}
        return self.observe(), reward, terminated, over, info

    def observe(self) -> dict[str, np.ndarray]:
        state = (self.place + (self.past if self.fault == "leaks" else 0.0)).astype(np.float32)
        if self.fault == "blind" and self.config.pixels:
            state = state + np.float32(1)
        state = {
            "field": np.zeros(3, np.float32),
            "dtype": state.astype(np.float64),
            "nan": state * np.nan,
            "bounds": state + 20,
        }.get(self.fault, state)
        if self.fault == "reuses":
            self.out[:] = state
            state = self.out
        found = {} if self.fault == "missing field" else {"state": state}
        return found | ({"image": np.full((8, 8, 3), self.steps % 256, np.uint8)} if self.config.pixels else {})

    def render(self) -> np.ndarray:  # type: ignore[override]
        if self.fault == "looking":
            self.rng.random()
        if self.fault == "flat":
            return np.zeros((8, 8), np.uint8)
        frame = np.zeros((8, 8, 3), np.uint8)
        frame[2, 3] = 0 if self.fault == "dark" else 255
        return frame

    def close(self) -> None:
        if self.fault == "close" and self.closed:
            raise RuntimeError("closed twice")
        self.closed = True


def make(config: EnvConfig, seed: int) -> Walk:
    return Walk(config, seed)


def tasks() -> list[str]:
    return ["good", *BROKEN]


@pytest.fixture(autouse=True)
def suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SUITES, "walk", __name__)  # type: ignore[arg-type]


def test_a_good_environment_passes_and_is_measured() -> None:
    report = check(EnvConfig(task="walk/good"), QUICK)
    assert report.ok, report.problems
    assert min(report.state_per_s, report.pixels_per_s, report.reset_s) > 0
    assert (report.actions, report.max_steps) == ("Box(2)", 5000)
    assert report.observations == "image[8, 8, 3] state[2]"


def test_without_pixels_nothing_is_rendered() -> None:
    report = check(EnvConfig(task="walk/dark", pixels=False), QUICK)
    assert report.ok, report.problems
    assert report.pixels_per_s == 0


@pytest.mark.parametrize(("fault", "words"), [item for item in BROKEN.items() if item[0] != "actions"])
def test_each_breach_is_named(fault: str, words: str) -> None:
    problems = check(EnvConfig(task=f"walk/{fault}"), QUICK).problems
    assert any(words in problem for problem in problems), problems
    assert len(problems) <= 4


def test_actions_of_other_bounds_are_scaled_and_so_no_breach() -> None:
    assert check(EnvConfig(task="walk/actions"), QUICK).ok


def test_what_the_machine_lacks_is_no_breach() -> None:
    report = check(EnvConfig(task="walk/absent"), QUICK)
    assert (report.problems, report.ok) == ((), False)
    assert "pip install walk" in report.missing


def test_a_simulator_that_dies_is_a_problem_of_its_task_alone() -> None:
    report = check(EnvConfig(task="faulty/kill@1.0", hosted=True, pixels=False), QUICK)
    assert "it broke" in report.problems[-1]


def test_the_clock_of_this_process_is_none_for_another() -> None:
    quick = replace(QUICK, clock="cpu")
    assert check(EnvConfig(task="walk/dark", pixels=False), quick).ok
    with pytest.raises(BadInput, match="another process"):
        check(EnvConfig(task="dmc/cartpole_swingup", hosted=True, pixels=False), quick)


def test_what_names_nothing_is_an_error() -> None:
    with pytest.raises(BadInput):
        check(EnvConfig(task="dmc/walker_wak"), QUICK)


@pytest.mark.parametrize(
    "task",
    [
        "dmc/pendulum_swingup",
        "dmc/lqr_lqr_2_1",
        "hybrid/platform",
        "tabletop/pick_place",
        "hybrid/hard_goal",
        "hybrid/hard_move_4",
    ],
)
def test_suites_keep_the_contract(task: str) -> None:
    report = check(EnvConfig(task=task, image_size=16, render_size=16), QUICK)
    assert report.ok, report.problems


CRAFTER = pytest.param("crafter/reward", marks=pytest.mark.slow)  # a reset takes a second


@pytest.mark.parametrize("task", ["atari/pong", "atari/breakout@sticky+gray", CRAFTER])
def test_suites_of_other_packages_keep_the_contract(task: str) -> None:
    pytest.importorskip({"atari": "ale_py", "crafter": "crafter"}[task.partition("/")[0]])
    report = check(EnvConfig(task=task), QUICK)
    assert report.ok, report.problems


def test_spaces_in_a_few_words() -> None:
    one = spaces.Box(-1, 1, (1,))
    assert brief(spaces.Tuple((spaces.Discrete(3), spaces.Tuple((one, one))))) == "(Discrete(3) x (2 Box(1)))"
    assert brief(spaces.Dict({"camera": spaces.Box(-1, 1, (2,)), "jump": spaces.Discrete(2)})) == (
        "(Box(2) x Discrete(2))"
    )
    assert brief(spaces.MultiDiscrete([3, 2])) == "MultiDiscrete(2)"
