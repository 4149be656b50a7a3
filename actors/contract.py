"""The contract of an environment, clause by clause: each yields a sentence for each thing that is wrong.

README.md has the contract in words; check.py tries it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.envs.registry import EnvConfig, EnvInfo, info_of, make

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
LONG = 2000  # decisions; an episode of more must be one that `time_limit_s` can shorten


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """How thoroughly to look."""

    decisions: int = 40  # played for each comparison
    limit: int = 12  # decisions of the episodes that are played to their limit
    measure_s: float = 1.0  # of stepping, for each rate; 0 measures nothing
    clock: Literal["wall", "cpu"] = "wall"  # cpu: of this process, which a busy machine disturbs less
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """One step, with copies of what was observed."""

    observation: dict[str, np.ndarray]
    reward: float
    terminated: bool
    truncated: bool


class Bench:
    """The environments that a check plays with; each is made when it is first needed."""

    def __init__(self, config: EnvConfig, settings: CheckConfig) -> None:
        self.config, self.settings = config, settings
        self._made: list[gymnasium.Env] = []

    @cached_property
    def seen(self) -> gymnasium.Env:
        """As configured, so with pixels unless the configuration says no."""
        return self._make(self.config, 0)

    @cached_property
    def other(self) -> gymnasium.Env:
        """A second one, made with another seed."""
        return self._make(self.config, 1)

    @cached_property
    def blind(self) -> gymnasium.Env:
        return self._make(replace(self.config, pixels=False, state=True), 2)

    @cached_property
    def short(self) -> gymnasium.Env:
        """One whose episodes are short, if its suite can do that."""
        limit_s = self.settings.limit / self.info.fps
        return self._make(replace(self.config, pixels=False, state=True, time_limit_s=limit_s), 3)

    @cached_property
    def info(self) -> EnvInfo:
        return info_of(self.seen)

    def actions(self, count: int) -> Iterator[np.ndarray]:
        """The extremes first, then uniform draws: the same on every call."""
        space, rng = self.seen.action_space, np.random.default_rng(self.settings.seed)
        assert isinstance(space, spaces.Box)
        for number in range(count):
            yield space.low if number == 0 else space.high if number == 1 else rng.uniform(space.low, space.high)

    def play(self, env: gymnasium.Env, seed: int, count: int, look: bool = False) -> list[Moment]:
        """Up to `count` decisions of one episode."""
        moments = [Moment(_copy(env.reset(seed=seed)[0]), 0.0, False, False)]
        for action in self.actions(count):
            if look:
                env.render()
            observation, reward, terminated, truncated, _ = env.step(action.astype(np.float32))
            moments.append(Moment(_copy(observation), float(reward), terminated, truncated))
            if terminated or truncated:
                break
        return moments

    def released(self, env: gymnasium.Env) -> gymnasium.Env:
        """`env`, which the caller closes."""
        self._made.remove(env)
        return env

    def close(self) -> None:
        while self._made:
            self._made.pop().close()

    def _make(self, config: EnvConfig, seed: int) -> gymnasium.Env:
        self._made.append(make(config, seed))
        return self._made[-1]


def says_what_it_is(bench: Bench) -> Iterator[str]:
    info = bench.info
    if not (isinstance(info.task_text, str) and info.task_text):
        yield f"task_text is {info.task_text!r}, not words"
    if not (info.fps > 0 and np.isfinite(info.fps)):
        yield f"fps is {info.fps}"
    if not (isinstance(info.max_steps, int) and info.max_steps > 0):
        yield f"max_steps is {info.max_steps!r}, not a number of decisions"


def has_spaces_of_named_arrays_and_a_vector(bench: Bench) -> Iterator[str]:
    found, actions = bench.seen.observation_space, bench.seen.action_space
    if not isinstance(found, spaces.Dict) or not list(found):
        yield f"observations are {found}, not a Dict of named fields"
        return
    for name, space in found.items():
        if not isinstance(space, spaces.Box) or np.dtype(space.dtype).name not in DTYPES:
            yield f"the field {name!r} is {space}, not an array that can be stored"
    if actions != spaces.Box(-1.0, 1.0, actions.shape, np.float32) or len(actions.shape or ()) != 1:
        yield f"actions are {actions}, not a vector in [-1, 1]"


def keeps_to_its_spaces(bench: Bench) -> Iterator[str]:
    env = bench.seen
    observation, info = env.reset(seed=1)
    yield from _misfits(env, observation)
    if not isinstance(info, dict):
        yield f"reset gave no info but {info!r}"
    for action in bench.actions(bench.settings.decisions):
        observation, reward, terminated, truncated, info = env.step(action.astype(np.float32))
        yield from _misfits(env, observation)
        if not np.isfinite(float(reward)):
            yield f"a reward is {reward}"
        if not isinstance(terminated, bool | np.bool_) or not isinstance(truncated, bool | np.bool_):
            yield f"terminated and truncated are {terminated!r} and {truncated!r}, not booleans"
        if not isinstance(info.get("success", False), bool | np.bool_):
            yield f"success is {info['success']!r}, not a boolean"
        if terminated or truncated:
            yield from _misfits(env, env.reset()[0])


def repeats_itself_under_a_seed(bench: Bench) -> Iterator[str]:
    count = bench.settings.decisions
    first = bench.play(bench.seen, 11, count)
    bench.play(bench.other, 12, count // 2)  # a past that must leave no trace
    if difference := _difference(first, bench.play(bench.other, 11, count)):
        yield f"the same seed and actions give another episode: {difference}"
    if all(not _difference(first, bench.play(bench.other, seed, count)) for seed in (12, 13, 14)):
        yield "four seeds give the same episode"


def keeps_what_it_gave(bench: Bench) -> Iterator[str]:
    """Observations are the caller's: a later step must not write into them."""
    env = bench.seen
    given = env.reset(seed=1)[0]
    before = _copy(given)
    for action in bench.actions(3):
        env.step(action.astype(np.float32))
    if changed := [name for name in given if not np.array_equal(given[name], before[name], equal_nan=True)]:
        yield f"later steps changed {', '.join(map(repr, changed))} of an earlier observation"


def is_not_changed_by_looking(bench: Bench) -> Iterator[str]:
    count = bench.settings.decisions
    plain = bench.play(bench.blind, 21, count)
    if not bench.config.pixels:
        return
    if difference := _difference(plain, bench.play(bench.seen, 21, count)):
        yield f"with pixels the episode is another: {difference}"
    looked = bench.play(bench.other, 21, count, look=True)
    if difference := _difference(bench.play(bench.seen, 21, count), looked):
        yield f"render() changes the episode: {difference}"


def ends_at_its_limit(bench: Bench) -> Iterator[str]:
    limit = info_of(bench.short).max_steps
    if limit > LONG:
        yield f"time_limit_s does not shorten an episode of {limit} decisions"
        return
    for seed in range(5):
        moments = bench.play(bench.short, seed, limit + 1)
        last = moments[-1]
        if last.terminated and last.truncated:
            yield "an episode ends both terminated and truncated"
        if not (last.terminated or last.truncated):
            yield f"an episode goes on after max_steps={limit}"
        if last.truncated:
            break  # it was this one that the limit ended; others may terminate before


def ends_when_closed(bench: Bench) -> Iterator[str]:
    """Closing twice is no error."""
    env = bench.released(bench.short)
    env.close()
    env.close()
    yield from ()


def shows_pictures(bench: Bench) -> Iterator[str]:
    if not bench.config.pixels:
        return
    bench.seen.reset(seed=1)
    frame: Any = bench.seen.render()
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        yield f"render() gives {getattr(frame, 'shape', frame)}, not (H, W, 3) uint8"
    elif frame.max() == frame.min():
        yield "render() gives a picture of one colour"


CLAUSES: tuple[Callable[[Bench], Iterator[str]], ...] = (
    says_what_it_is,
    has_spaces_of_named_arrays_and_a_vector,
    keeps_to_its_spaces,
    repeats_itself_under_a_seed,
    keeps_what_it_gave,
    is_not_changed_by_looking,
    ends_at_its_limit,
    shows_pictures,
    ends_when_closed,
)


def _misfits(env: gymnasium.Env, observation: Any) -> Iterator[str]:
    assert isinstance(env.observation_space, spaces.Dict)
    if not isinstance(observation, dict) or observation.keys() != set(env.observation_space):
        yield f"an observation has {sorted(observation)}, not {sorted(env.observation_space)}"
        return
    for name, space in env.observation_space.items():
        value = observation[name]
        if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (space.shape, space.dtype):
            yield f"{name!r} is {getattr(value, 'shape', value)} {getattr(value, 'dtype', '')}, not {space}"
        elif not np.isfinite(value).all():
            yield f"{name!r} is not finite"
        elif not space.contains(value):
            yield f"{name!r} leaves its bounds: {space}"


def _difference(first: list[Moment], second: list[Moment]) -> str:
    """The first thing that differs, in the fields that both have; empty if nothing does."""
    for step, (one, other) in enumerate(zip(first, second, strict=False)):
        for name in one.observation.keys() & other.observation.keys():
            if not np.array_equal(one.observation[name], other.observation[name], equal_nan=True):
                return f"{name!r} at step {step}"
        if (one.reward, one.terminated, one.truncated) != (other.reward, other.terminated, other.truncated):
            return f"reward or end at step {step}"
    return "" if len(first) == len(second) else "the length"


def _copy(observation: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in observation.items()}
