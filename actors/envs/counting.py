"""An environment whose every step says where it comes from, so that a test can prove that sequences are contiguous."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.envs.registry import EnvConfig
from replay.errors import BadInput

ACTION_DIM = 2


def make(config: EnvConfig, seed: int) -> CountingEnv:
    return CountingEnv(config, seed)


def tasks() -> tuple[str, ...]:
    """Examples: any length will do."""
    return "10", "5-12"


class CountingEnv(gymnasium.Env):
    """`counting/<n>`: episodes of n decisions; `counting/<n>-<m>`: of n to m, drawn from the seed of the reset.

    Observations: "count" (4,) int64 = (environment's seed, episodes begun, seed of the reset, step); "state" (2,)
    float32 = the action that caused it; "image" if asked for, all of it the step modulo 256. The reward is the step.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own attribute)
    render_mode = "rgb_array"

    def __init__(self, config: EnvConfig, seed: int) -> None:
        self.config, self._id = config, seed
        self._range = _lengths(config.task.partition("/")[2])
        self.task_text, self.fps, self.max_steps = "count", 1.0, self._range[1]
        self._episode = self._step = 0
        self._begin(seed)
        self.action_space = spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)
        whole = np.iinfo(np.int64)
        found: dict[str, spaces.Space] = {"count": spaces.Box(whole.min, whole.max, (4,), np.int64)}
        if config.state:
            found["state"] = spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)
        if config.pixels:
            found["image"] = spaces.Box(0, 255, (config.image_size, config.image_size, 3), np.uint8)
        self.observation_space = spaces.Dict(found)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self._begin(self._seed + 1 if seed is None else seed)
        self._episode, self._step = self._episode + 1, 0
        return self._observe(np.zeros(ACTION_DIM)), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self._step += 1
        return self._observe(action), float(self._step), False, self._step >= self.length, {}

    def render(self) -> np.ndarray:  # type: ignore[override]
        size = self.config.render_size
        return np.full((size, size, 3), self._step % 256, np.uint8)

    def _begin(self, seed: int) -> None:
        self._seed = seed
        self.length = int(np.random.default_rng(seed).integers(self._range[0], self._range[1] + 1))

    def _observe(self, action: np.ndarray) -> dict[str, np.ndarray]:
        found = {"count": np.array([self._id, self._episode, self._seed, self._step], np.int64)}
        if self.config.state:
            found["state"] = np.asarray(action, np.float32)
        if self.config.pixels:
            size = self.config.image_size
            found["image"] = np.full((size, size, 3), self._step % 256, np.uint8)
        return found


def _lengths(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    try:
        found = int(low), int(high or low)
    except ValueError:
        found = (0, 0)
    if not 1 <= found[0] <= found[1]:
        raise BadInput(f"counting/{text} names no length.", "Write counting/10, or counting/5-12.")
    return found
