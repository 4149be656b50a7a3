"""What the hybrid games share: seeds, limits, the state as a vector, a picture when one is asked for."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.envs.pixels import Canvas, resize
from actors.envs.registry import EnvConfig, limit_steps


@dataclass(frozen=True, slots=True)
class Result:
    """How a decision ended."""

    reward: float
    terminated: bool = False
    success: bool = False


GO_ON = Result(0.0)


class HybridEnv(gymnasium.Env):
    """Observations: "state" (S,) float32, "image" (size, size, 3) uint8. A game works with plain floats and its own
    `random.Random`: numpy's scalars would take most of the time."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own attribute)
    render_mode = "rgb_array"
    task_text: str
    fps = 1.0  # a decision lasts as long as it must; nominal
    limit = 200  # decisions

    def __init__(self, config: EnvConfig, seed: int, state_size: int, bound: float = 1.0) -> None:
        self.config, self.rng = config, random.Random(seed)
        self.max_steps = limit_steps(config, self.fps, self.limit)
        self.action_space = self._actions()
        found: dict[str, spaces.Space] = {}
        if config.state:
            found["state"] = spaces.Box(-bound, bound, (state_size,), np.float32)
        if config.pixels:
            found["image"] = spaces.Box(0, 255, (config.image_size, config.image_size, 3), np.uint8)
        self.observation_space = spaces.Dict(found)
        self.steps = 0
        self._start()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.rng.seed(seed)
        self.steps = 0
        self._start()
        return self._observe(), {"success": False}

    def step(self, action: Any) -> tuple[dict, float, bool, bool, dict]:
        self.steps += 1
        k = int(action[0])
        chosen = action[1][k] if isinstance(action[1], tuple) else action[1]
        result = self._decide(k, chosen.tolist())
        truncated = self.steps >= self.max_steps and not result.terminated
        return self._observe(), result.reward, result.terminated, truncated, {"success": result.success}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """(render_size, render_size, 3) uint8."""
        return self._picture(self.config.render_size).array()

    @abstractmethod
    def _actions(self) -> spaces.Tuple: ...

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _decide(self, k: int, values: Sequence[float]) -> Result: ...

    @abstractmethod
    def _state(self) -> Sequence[float]: ...

    @abstractmethod
    def _picture(self, size: int) -> Canvas: ...

    def _observe(self) -> dict[str, np.ndarray]:
        found = {}
        if self.config.state:
            found["state"] = np.array(self._state(), np.float32)
        if self.config.pixels:
            found["image"] = resize(self.render(), self.config.image_size)
        return found


def clip(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value


def one_box_each(bounds: Sequence[tuple[Sequence[float], Sequence[float]]]) -> spaces.Tuple:
    """(k, (x_0, ..)): a discrete choice and the lower and upper bounds of each choice's numbers."""
    boxes = [spaces.Box(np.asarray(low, np.float32), np.asarray(high, np.float32)) for low, high in bounds]
    return spaces.Tuple((spaces.Discrete(len(boxes)), spaces.Tuple(boxes)))
