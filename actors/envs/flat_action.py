"""Any gymnasium action space as one float32 vector in [-1, 1], and back: what policies and the replay speak.

The vector is `gymnasium.spaces.flatten` of the action: one-hot for discrete parts, Box parts scaled to [-1, 1], in the
space's own order. Reading a vector is total: the largest entry of a discrete part wins, Box parts are clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.envs.stepping import Reset, Step, halves
from replay.errors import BadInput

Read = Callable[[np.ndarray, np.ndarray], Any]  # takes (vector as given, vector scaled to the bounds)


class ActionCodec:
    """Native actions of `space` <-> vectors (dim,) float32. Raises BadInput for a space that has no such vector."""

    def __init__(self, space: spaces.Space) -> None:
        self.space = space
        self._leaves = list(_leaves(space))
        self.dim = sum(spaces.flatdim(leaf) for leaf in self._leaves)
        bounds = [_bounds(leaf) for leaf in self._leaves]
        self._low, self._high = (np.concatenate(side).astype(np.float64) for side in zip(*bounds, strict=True))
        self._middle, self._half = (self._high + self._low) / 2, (self._high - self._low) / 2
        self._read, width = _reader(space, 0)
        assert width == self.dim

    def decode(self, vector: np.ndarray) -> Any:
        """The native action that a finite vector (dim,) stands for."""
        scaled = self._middle + self._half * np.asarray(vector, np.float64)
        return self._read(np.asarray(vector), np.minimum(np.maximum(scaled, self._low), self._high))

    def encode(self, action: Any) -> np.ndarray:
        """The vector (dim,) float32 of a native action; `decode` gives the action back."""
        raw = np.asarray(spaces.flatten(self.space, action), np.float64)
        half = np.where(self._half > 0, self._half, 1.0)  # a Box that allows one value only: 0
        return np.clip((raw - self._middle) / half, -1.0, 1.0).astype(np.float32)


class FlatAction(gymnasium.Wrapper):
    """An environment whose actions are vectors. `info["action"]` is the vector of the action that was taken: one-hot,
    clipped, the same whichever vector stood for it."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.native_action_space = env.action_space
        self.codec = ActionCodec(env.action_space)
        self.action_space = spaces.Box(-1.0, 1.0, (self.codec.dim,), np.float32)

    def step(self, action: np.ndarray) -> Step:
        native = self.codec.decode(action)
        return self._told(native, self.env.step(native))

    def _told(self, native: Any, answer: Step) -> Step:
        observation, reward, terminated, truncated, info = answer
        return observation, reward, terminated, truncated, {**info, "action": self.codec.encode(native)}


class FlatHalves(FlatAction):
    """The same around an environment that works elsewhere: it may be asked in halves too (actors/envs/stepping.py)."""

    env: Any

    def begin_reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.env.begin_reset(seed=seed, options=options)

    def finish_reset(self) -> Reset:
        return self.env.finish_reset()

    def begin_step(self, action: np.ndarray) -> None:
        self._native = self.codec.decode(action)
        self.env.begin_step(self._native)

    def finish_step(self) -> Step:
        return self._told(self._native, self.env.finish_step())

    def fileno(self) -> int:
        return self.env.fileno()

    @property
    def late(self) -> bool:
        return self.env.late


def flat(env: gymnasium.Env) -> gymnasium.Env:
    """`env` itself if its actions are vectors in [-1, 1] already, else in a FlatAction."""
    space = env.action_space
    is_flat = isinstance(space, spaces.Box) and space == spaces.Box(-1.0, 1.0, space.shape, np.float32)
    if is_flat and len(space.shape or ()) == 1:
        return env
    return FlatHalves(env) if halves(env) else FlatAction(env)


def native_action_space(env: gymnasium.Env) -> spaces.Space:
    """The action space that the suite itself has."""
    name = "native_action_space"
    return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else env.action_space


def _children(space: spaces.Space) -> list[spaces.Space]:
    if isinstance(space, spaces.Dict):
        return list(space.values())
    return list(space) if isinstance(space, spaces.Tuple) else []


def _leaves(space: spaces.Space) -> Iterator[spaces.Space]:
    """The parts that are no container, in the order in which gymnasium flattens them."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for child in _children(space):
            yield from _leaves(child)
    elif isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        yield space
    else:
        raise BadInput(f"Actions of {space} fit no vector.", "Build the action space from Box, Discrete and Multi*.")


def _bounds(leaf: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    """What the entries -1 and 1 of the vector mean; discrete parts are one-hot as they are."""
    if not isinstance(leaf, spaces.Box):
        return -np.ones(spaces.flatdim(leaf)), np.ones(spaces.flatdim(leaf))
    if not leaf.is_bounded():
        raise BadInput(f"The action {leaf} has no bounds to scale to.", "Give the Box finite bounds.")
    return leaf.low.ravel(), leaf.high.ravel()


def _reader(space: spaces.Space, at: int) -> tuple[Read, int]:
    """What reads the action of `space` out of a vector, from position `at` on, and the position behind it."""
    if isinstance(space, spaces.Dict):
        names = list(space)
        inner, end = _container(space, at)
        return lambda raw, scaled: dict(zip(names, inner(raw, scaled), strict=True)), end
    if isinstance(space, spaces.Tuple):
        return _container(space, at)
    part = slice(at, at + spaces.flatdim(space))
    return _leaf_reader(space, part), part.stop


def _container(space: spaces.Space, at: int) -> tuple[Read, int]:
    readers = []
    for child in _children(space):
        reader, at = _reader(child, at)
        readers.append(reader)
    return lambda raw, scaled: tuple(read(raw, scaled) for read in readers), at


def _leaf_reader(space: spaces.Space, part: slice) -> Read:
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return lambda raw, scaled: first + int(raw[part].argmax())
    if isinstance(space, spaces.MultiDiscrete):
        return _multi_discrete_reader(space, part)
    if isinstance(space, spaces.MultiBinary):
        return lambda raw, scaled: (raw[part] > 0).astype(np.int8).reshape(space.shape)
    shape, dtype = space.shape, space.dtype
    assert shape is not None
    if np.issubdtype(dtype, np.integer):
        return lambda raw, scaled: np.rint(scaled[part]).astype(dtype).reshape(shape)
    return lambda raw, scaled: scaled[part].astype(dtype).reshape(shape)


def _multi_discrete_reader(space: spaces.MultiDiscrete, part: slice) -> Read:
    cuts = np.cumsum(space.nvec.ravel())[:-1]

    def read(raw: np.ndarray, scaled: np.ndarray) -> np.ndarray:
        chosen = [one.argmax() for one in np.split(raw[part], cuts)]
        return space.start + np.array(chosen, space.dtype).reshape(space.shape)

    return read
