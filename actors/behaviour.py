"""Agents without weights: uniform noise, Ornstein-Uhlenbeck noise, and an expert disturbed to make training data.

Each row of a batch draws from a generator of its own, so one environment's noise does not depend on its neighbours'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from actors.experts import Expert
from learners.agent import Mode, Observation

AHEAD = 64  # random actions that are drawn at a time
Drawn = list[Iterator[np.ndarray]]  # by row


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourConfig:
    """The mixture that collects data: an expert, disturbed so that outcomes vary."""

    epsilon: tuple[float, float] = (0.3, 1.0)  # share of disturbed decisions, drawn uniformly for each episode
    hold: float = 4.0  # mean decisions that the expert, or one random action, stays in charge
    levels: tuple[float, ...] = ()  # the only values an action may take; empty: any in [-1, 1]
    expert: str = ""  # the task whose expert acts; empty: the environment's own


@dataclass(slots=True)
class Rows:
    """What a weightless agent carries: by row, a generator, the episode's share of noise and the action held."""

    rngs: list[np.random.Generator]
    epsilon: np.ndarray  # (B,)
    disturbed: np.ndarray  # (B, A) bool
    action: np.ndarray  # (B, A) the held random action, or the state of the noise

    @staticmethod
    def start(batch_size: int, action_dim: int, seed: int) -> Rows:
        shape = (batch_size, action_dim)
        return Rows(generators(batch_size, seed), np.zeros(batch_size), np.zeros(shape, bool), np.zeros(shape))

    def rows(self, begin: int, end: int) -> Rows:
        arrays = (array[begin:end].copy() for array in (self.epsilon, self.disturbed, self.action))
        return Rows(self.rngs[begin:end], *arrays)


class Rowwise:
    """What agents without weights share: each row is for itself, so any rows may be joined and split."""

    action_dim: int

    def start(self, batch_size: int, seed: int) -> Rows:
        return Rows.start(batch_size, self.action_dim, seed)

    def join(self, carries: Sequence[Rows]) -> Rows:
        columns = zip(*((c.epsilon, c.disturbed, c.action) for c in carries), strict=True)
        return Rows([rng for c in carries for rng in c.rngs], *(np.concatenate(column) for column in columns))

    def split(self, carry: Rows, sizes: Sequence[int]) -> list[Rows]:
        ends = np.cumsum(sizes).tolist()
        return [carry.rows(end - size, end) for size, end in zip(sizes, ends, strict=True)]


class Random:
    """Uniform actions, independent from decision to decision."""

    def __init__(self, action_dim: int, levels: tuple[float, ...] = ()) -> None:
        self.action_dim, self.levels = action_dim, levels

    def start(self, batch_size: int, seed: int) -> Drawn:
        return [self._actions(rng) for rng in generators(batch_size, seed)]

    def act(self, observation: Observation, carry: Drawn, mode: Mode = "sample") -> tuple[np.ndarray, Drawn]:
        actions = [next(row) for row in carry]
        return actions[0] if len(actions) == 1 else np.concatenate(actions), carry

    def join(self, carries: Sequence[Drawn]) -> Drawn:
        return [*chain.from_iterable(carries)]

    def split(self, carry: Drawn, sizes: Sequence[int]) -> list[Drawn]:
        rows = iter(carry)
        return [[*islice(rows, size)] for size in sizes]

    def _actions(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """(1, A) each. Many are drawn at a time, which costs what one does, and are the same as one by one."""
        while True:
            drawn = uniform(rng, (AHEAD, self.action_dim), self.levels).astype(np.float32)
            yield from drawn[:, None]


class OrnsteinUhlenbeck(Rowwise):
    """Noise that drifts back to zero: x <- (1 - theta) x + sigma n, clipped (Lillicrap et al. 2016, section 7)."""

    def __init__(self, action_dim: int, theta: float = 0.15, sigma: float = 0.3) -> None:
        self.action_dim, self.theta, self.sigma = action_dim, theta, sigma

    def act(self, observation: Observation, carry: Rows, mode: Mode = "sample") -> tuple[np.ndarray, Rows]:
        carry.action[observation.is_first] = 0.0
        noise = np.array([rng.standard_normal(self.action_dim) for rng in carry.rngs])
        carry.action = carry.action * (1 - self.theta) + self.sigma * noise
        return np.clip(carry.action, -1.0, 1.0).astype(np.float32), carry


class Behaviour(Rowwise):
    """An expert and random actions, by turns: each turn lasts `hold` decisions on average (geometric), and each action
    dimension is random in it with the episode's probability epsilon. In mode "mode" the expert acts alone.

    The dimensions are disturbed independently, because a policy whose dimensions are drawn independently given the
    state can then copy the behaviour exactly: cloning is not handicapped by the way the data was made.
    """

    def __init__(self, config: BehaviourConfig, expert: Expert, action_dim: int) -> None:
        self.config, self.expert, self.action_dim = config, expert, action_dim

    def act(self, observation: Observation, carry: Rows, mode: Mode = "sample") -> tuple[np.ndarray, Rows]:
        self._turn(carry, observation.is_first)
        wanted = snap(self.expert(observation.fields["state"]), self.config.levels)
        if mode == "sample":
            wanted = np.where(carry.disturbed, carry.action, wanted)
        return wanted.astype(np.float32), carry

    def _turn(self, carry: Rows, is_first: np.ndarray) -> None:
        for row, rng in enumerate(carry.rngs):
            if is_first[row]:
                carry.epsilon[row] = rng.uniform(*self.config.epsilon)
            if is_first[row] or rng.random() < 1.0 / self.config.hold:
                carry.disturbed[row] = rng.random(self.action_dim) < carry.epsilon[row]
                carry.action[row] = uniform(rng, self.action_dim, self.config.levels)


def generators(count: int, seed: int) -> list[np.random.Generator]:
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(count)]


def uniform(rng: np.random.Generator, shape: int | tuple[int, ...], levels: tuple[float, ...]) -> np.ndarray:
    """Of this shape, uniform in [-1, 1], or over `levels`, each number by itself."""
    return rng.choice(levels, shape) if levels else rng.uniform(-1.0, 1.0, shape)


def snap(action: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """The nearest of `levels` in each coordinate; `action` itself if there are none."""
    if not levels:
        return action
    values = np.asarray(levels)
    return values[np.abs(action[..., None] - values).argmin(-1)]
