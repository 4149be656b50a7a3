"""Every environment by name: `<suite>/<task>`, one module a suite, one configuration for all."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import gymnasium
import numpy as np

from replay.errors import BadInput
from replay.schema import EpisodeSpec

# One line a suite: prefix -> module with `make(config, seed) -> gymnasium.Env`, imported when it is first asked for.
SUITES: Mapping[str, str] = {
    "dmc": "actors.envs.dmc",
    "counting": "actors.envs.counting",
    "faulty": "actors.envs.faulty",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvConfig:
    """What the agent sees and how long a decision lasts. Suites ignore the keys that mean nothing to them."""

    task: str = "dmc/cartpole_swingup"
    image_size: int = 32  # pixels a side, after averaging
    render_size: int = 96  # pixels a side as rendered; a multiple of image_size
    camera: int = 0
    fovy: float = 0.0  # vertical field of view in degrees; 0 keeps the model's
    action_repeat: int = 4  # simulator steps a decision
    time_limit_s: float = 0.0  # simulated seconds an episode; 0 keeps the task's
    state: bool = True  # observe "state" (the simulator's own features) and "qpos" (joint positions, for probes)
    pixels: bool = True  # observe "image"; False never starts a renderer


def make(config: EnvConfig, seed: int) -> gymnasium.Env:
    """An environment with Dict observations ({"image": (H, W, 3) uint8, "state": (S,) float32, ...}) and actions
    Box(-1, 1). `seed` fixes its draws until `reset(seed=...)` gives another.

    Raises BadInput for an unknown suite or task, Missing when the machine lacks a part of the simulator.
    """
    suite, _, task = config.task.partition("/")
    if suite not in SUITES or not task:
        raise unknown(
            "environment suite", suite, SUITES, hint="write the task as suite/task, e.g. dmc/cartpole_swingup"
        )
    return importlib.import_module(SUITES[suite]).make(config, seed)


def episode_spec(config: EnvConfig) -> EpisodeSpec:
    """The fields of a step of this environment; starts no renderer (environments render first at `reset`)."""
    env = make(config, seed=0)
    try:
        return spec_of(env)
    finally:
        env.close()


def spec_of(env: gymnasium.Env) -> EpisodeSpec:
    """The fields of a step, from the environment's spaces."""
    assert isinstance(env.observation_space, gymnasium.spaces.Dict)
    assert env.action_space.shape is not None
    observations = {
        name: (tuple(space.shape or ()), np.dtype(space.dtype).name) for name, space in env.observation_space.items()
    }
    return EpisodeSpec.build(observations, action_dim=env.action_space.shape[0])


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> BadInput:
    """The error for a name that is not there; its mend names the nearest one that is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    mend = f"Did you mean {near[0]!r}?" if near else f"Choose one of: {', '.join(known)}."
    return BadInput(f"Unknown {what} {name!r}.", f"{mend} {hint}".strip())
