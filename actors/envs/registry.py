"""Every environment by name: `<suite>/<task>`, one module a suite, one configuration for all."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from actors.envs.flat_action import flat
from actors.hosting.config import HostConfig
from actors.hosting.hosted import HostedEnv
from actors.hosting.process import GuestSpec
from replay.errors import BadInput
from replay.schema import EpisodeSpec

# One line a suite: prefix -> module with `make(config, seed) -> gymnasium.Env` and `tasks() -> Iterable[str]` (without
# the prefix), imported when it is first asked for.
SUITES: Mapping[str, str] = {
    "dmc": "actors.envs.dmc",
    "hybrid": "actors.envs.hybrid",
    "crafter": "actors.envs.crafter",
    "atari": "actors.envs.atari",
    "libero": "actors.envs.libero",
    "robosuite": "actors.envs.robosuite",
    "minerl": "actors.envs.minerl",
    "tabletop": "actors.envs.tabletop",
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
    assets: str = ""  # LIBERO's meshes, or MineRL's built game; empty: $DISTWM_LIBERO_ASSETS, $DISTWM_MINERL_GAME
    hosted: bool = False  # in a process of its own; suites that need another interpreter always are
    host: HostConfig = field(default_factory=HostConfig)  # deadlines and memory of such a process


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvInfo:
    """What every environment says of itself, as attributes of the same names (`env.unwrapped`)."""

    task_text: str  # the task in words
    fps: float  # decisions a simulated second
    max_steps: int  # decisions after which an episode ends at the latest
    init_states: int = 0  # numbered ones that `reset(options={"init_state": n})` begins with; 0: there are none
    success_terminates: bool = False  # whether an episode is a success if, and only if, it terminates


def make(config: EnvConfig, seed: int) -> gymnasium.Env:
    """An environment with Dict observations ({"image": (H, W, 3) uint8, "state": (S,) float32, ...}) and actions
    Box(-1, 1); see flat_action.py for suites with other actions. `seed` fixes its draws until `reset(seed=...)` gives
    another. Where the suite knows success, `info["success"]` is a bool after each step.

    Raises BadInput for an unknown suite or task, Missing when the machine lacks a part of the simulator.
    """
    suite, _, task = config.task.partition("/")
    if suite not in SUITES or not task:
        raise unknown(
            "environment suite", suite, SUITES, hint="write the task as suite/task, e.g. dmc/cartpole_swingup"
        )
    module = _module(suite)
    own = config.hosted and not getattr(module, "HOSTED", False)  # some suites host themselves
    return flat(_hosted(config, seed) if own else module.make(config, seed))


def _hosted(config: EnvConfig, seed: int) -> HostedEnv:
    settings = asdict(config) | {"hosted": False, "host": {}}
    arguments = {"settings": settings, "seed": seed}
    return HostedEnv(GuestSpec(name=config.task, factory=f"{__name__}:guest", arguments=arguments), config.host)


def guest(settings: dict[str, Any], seed: int) -> gymnasium.Env:
    """What `make` with env.hosted=true makes in the other process."""
    config = EnvConfig(**settings | {"host": HostConfig()})
    return _module(config.task.partition("/")[0]).make(config, seed)


def tasks(suite: str) -> list[str]:
    """`suite/task` for each task of a suite, sorted. Raises BadInput for an unknown suite, Missing as `make` does."""
    if suite not in SUITES:
        raise unknown("environment suite", suite, SUITES)
    return [f"{suite}/{task}" for task in sorted(_module(suite).tasks())]


def _module(suite: str) -> ModuleType:
    return importlib.import_module(SUITES[suite])


def info_of(env: gymnasium.Env) -> EnvInfo:
    inner = env.unwrapped
    said = (field for field in fields(EnvInfo) if hasattr(inner, field.name) or field.default is MISSING)
    return EnvInfo(**{field.name: getattr(inner, field.name) for field in said})


def episode_spec(config: EnvConfig, plan_steps: int = 0) -> EpisodeSpec:
    """The fields of a step of this environment; starts no renderer (environments render first at `reset`)."""
    return describe(config, plan_steps)[0]


def describe(config: EnvConfig, plan_steps: int = 0) -> tuple[EpisodeSpec, EnvInfo]:
    """The fields of a step, and what the environment says of itself; as `episode_spec`."""
    env = make(config, seed=0)
    try:
        return spec_of(env, plan_steps), info_of(env)
    finally:
        env.close()


def spec_of(env: gymnasium.Env, plan_steps: int = 0) -> EpisodeSpec:
    """The fields of a step, from the environment's spaces; with `plan_steps` also the chunk of so many actions."""
    assert isinstance(env.observation_space, gymnasium.spaces.Dict)
    assert env.action_space.shape is not None
    observations = {
        name: (tuple(space.shape or ()), np.dtype(space.dtype).name) for name, space in env.observation_space.items()
    }
    return EpisodeSpec.build(observations, action_dim=env.action_space.shape[0], plan_steps=plan_steps)


def limit_steps(config: EnvConfig, fps: float, default: int) -> int:
    """Decisions an episode, for suites that count them: `time_limit_s` of the configuration, or `default`."""
    return max(1, round(config.time_limit_s * fps)) if config.time_limit_s else default


def variants(text: str, known: Iterable[str]) -> tuple[str, frozenset[str]]:
    """`task@one+two` -> (task, {one, two}). Raises BadInput for a variant that is not known."""
    task, _, names = text.partition("@")
    found = frozenset(names.split("+")) if names else frozenset()
    for name in sorted(found.difference(known)):
        raise unknown(f"variant of {task!r}", name, known)
    return task, found


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> BadInput:
    """The error for a name that is not there; its mend names the nearest one that is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    mend = f"Did you mean {near[0]!r}?" if near else f"Choose one of: {', '.join(known)}."
    return BadInput(f"Unknown {what} {name!r}.", f"{mend} {hint}".strip())
