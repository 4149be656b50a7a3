"""Crafter (Hafner 2021, arXiv 2109.06780): `crafter/reward`, and `crafter/noreward` without rewards.

Needs the package `crafter`, which has gym's old interface and no seeds of its own that hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.envs.registry import EnvConfig, limit_steps, unknown
from replay.errors import BadInput, Missing

TASKS: Mapping[str, bool] = {"reward": True, "noreward": False}
FPS, LIMIT = 10.0, 10_000  # nominal; decisions
MAX_ITEM = 9  # of anything in the inventory
SMALLEST = 18  # pixels a side: the game draws nine tiles of at least two
GOAL = "collect_diamond"


def make(config: EnvConfig, seed: int) -> Crafter:
    name = config.task.partition("/")[2]
    if name not in TASKS:
        raise unknown("crafter task", name, TASKS)
    return Crafter(config, seed, TASKS[name])


def tasks() -> tuple[str, ...]:
    return tuple(TASKS)


class Crafter(gymnasium.Env):
    """Observations: "image" (size, size, 3) uint8 as the game draws it, "state" (16,) float32, the inventory in [0, 1].

    Reward: 1 for each achievement that is unlocked, 0.1 for each point of health won or lost. `info["achievements"]`
    counts all 22; success is a diamond. Death terminates, 10 000 decisions truncate.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own attribute)
    render_mode = "rgb_array"
    task_text = "survive, gather and craft, up to a diamond"
    fps = FPS

    def __init__(self, config: EnvConfig, seed: int, reward: bool) -> None:
        self.config = config
        _check(config)
        self.max_steps = limit_steps(config, FPS, LIMIT)
        self._game = _load(config, seed, reward, self.max_steps)
        self.action_space = spaces.Discrete(len(self._game.action_names))
        found: dict[str, spaces.Space] = {}
        if config.state:
            found["state"] = spaces.Box(0.0, 1.0, (_items(),), np.float32)
        if config.pixels:
            found["image"] = spaces.Box(0, 255, (config.image_size, config.image_size, 3), np.uint8)
        self.observation_space = spaces.Dict(found)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self._game._seed, self._game._episode = seed, 0
        self._game.reset()
        return self._observe(self._game._player.inventory), {"success": False}

    def step(self, action: int) -> tuple[dict, float, bool, bool, dict]:
        _, reward, done, info = self._game.step(int(action))
        terminated = info["discount"] == 0.0
        achievements = info["achievements"]
        milestones = {name: count > 0 for name, count in achievements.items()}
        found = {"success": milestones[GOAL], "achievements": achievements, "milestones": milestones}
        return self._observe(info["inventory"]), float(reward), terminated, done and not terminated, found

    def render(self) -> np.ndarray:  # type: ignore[override]
        """(render_size, render_size, 3) uint8."""
        return self._draw(self.config.render_size)

    def _draw(self, size: int) -> np.ndarray:
        """Nights are noisy. The noise is drawn apart here, or to look would be to change the game."""
        game, world = self._game, self._game._world
        game._size = np.array([size, size])
        theirs = world.random
        world.random = np.random.default_rng((game._seed, game._episode, game._step))
        try:
            return game.render()
        finally:
            world.random = theirs

    def _observe(self, inventory: Mapping[str, int]) -> dict[str, np.ndarray]:
        found = {}
        if self.config.state:
            found["state"] = np.fromiter(inventory.values(), np.float32, _items()) / MAX_ITEM
        if self.config.pixels:
            found["image"] = self._draw(self.config.image_size)
        return found


class _Ordered(dict):
    """A set in the order in which it was filled."""

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]


def _check(config: EnvConfig) -> None:
    sizes = {"render_size": config.render_size} | ({"image_size": config.image_size} if config.pixels else {})
    for key, size in sizes.items():
        if size < SMALLEST:
            raise BadInput(f"Crafter cannot draw {size} pixels.", f"Set env.{key} to {SMALLEST} or more.")


def _load(config: EnvConfig, seed: int, reward: bool, length: int) -> Any:
    try:
        import crafter
    except ImportError as error:
        raise Missing(f"Crafter is not installed: {error}.", "Run `pip install crafter==1.8.3`.") from error
    _quicken_noise()
    game = crafter.Env(reward=reward, length=length, seed=seed)
    game._obs = lambda: None  # drawing is most of a step, so it is left to us and to when it is asked for
    _keep_order(game._world)
    return game


def _keep_order(world: Any) -> None:
    """The creatures of a chunk are kept in a set: which of them is despawned would depend on their addresses."""
    original = world.reset

    def reset(seed: int | None = None) -> None:
        original(seed=seed)
        world._chunks = defaultdict(_Ordered)

    world.reset = reset


def _quicken_noise() -> None:
    """A world is made of noise that looks single numbers up in an array; a list gives the same ones, and makes a reset
    four times faster. With numba, which compiles it, there is nothing to gain."""
    from opensimplex import internals

    if not hasattr(internals._noise3, "py_func"):
        internals.GRADIENTS3 = np.asarray(internals.GRADIENTS3).tolist()


def _items() -> int:
    from crafter import constants

    return len(constants.items)
