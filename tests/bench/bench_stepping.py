"""Steps a second of two runners with random actions, each in a process of its own, against a bare loop in two
processes (make the environment, step it, keep nothing) and against two of RLlib's SingleAgentEnvRunner.

All are Ray actors on one machine; the two processes of one side work at the same time, and the sides take turns by the
wall's clock. Redis, which the runners commit to, runs on the same cores.

    bare        one environment in each process
    in turn     the same with 8 in each process, stepped one after the other: what a batch of decisions costs the caches
    evaluate    EnvRunner.evaluate: no replay. It renders nothing for random actions, so there is none with pixels
    collect     EnvRunner.collect into an embedded Redis with an append-only file (durability=process)
    in memory   the same with durability=none
    RLlib       SingleAgentEnvRunner.sample(random_actions=True) with 8 environments and no module: the least it can do
    RLlib 1     with one environment
    RLlib RLM   with 8 environments and RandomRLModule, through its connectors
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import pytest
import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.examples.rl_modules.classes.random_rlm import RandomRLModule
from timing import arguments, ratio, table

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig, make
from actors.policies import PolicySpec
from actors.runner import EnvRunner, RunnerConfig
from replay.config import Durability, ReplayConfig
from replay.shards.server import EmbeddedRedis

PROCESSES, WIDTH, STEPS = 2, 8, 250  # runners, environments of each, decisions of an episode
CASES = {  # what, configuration, episodes of each process in a turn
    "dmc cartpole, state": (EnvConfig(task="dmc/cartpole_swingup", pixels=False), 16),
    "dmc walker, state": (EnvConfig(task="dmc/walker_walk", pixels=False), 16),
    "dmc walker, 64 px": (EnvConfig(task="dmc/walker_walk", image_size=64, render_size=64), 8),
}
Turn = Callable[[], int]  # plays, and says how many steps that were


class Bare:
    """The loop, over `width` environments."""

    def __init__(self, config: EnvConfig, width: int) -> None:
        self._envs = [make(config, number) for number in range(width)]
        self._rng = np.random.default_rng(0)

    def play(self, episodes: int) -> int:
        steps = 0
        for _ in range(episodes // len(self._envs)):
            for env in self._envs:
                env.reset()
            for _ in range(STEPS):
                for env in self._envs:
                    shape = env.action_space.shape
                    env.step(self._rng.uniform(-1.0, 1.0, shape).astype(np.float32))
                    steps += 1
        return steps


class Ours:
    """A runner that collects if it has a replay."""

    def __init__(self, index: int, config: EnvConfig, replay: ReplayConfig | None) -> None:
        runner = RunnerConfig(envs_per_runner=WIDTH)
        self._runner = EnvRunner(index, config, runner, replay, "bench", BehaviourConfig(), None, seed=0)
        self._collects, self._index, self._numbers = replay is not None, index, itertools.count()

    def play(self, episodes: int) -> int:
        before = self._runner.steps
        numbers = [PROCESSES * number + self._index for number in itertools.islice(self._numbers, episodes)]
        for first in range(0, episodes, WIDTH):
            some = numbers[first : first + WIDTH]
            if self._collects:
                self._runner.collect(PolicySpec(name="random"), some)
            else:
                self._runner.evaluate(PolicySpec(name="random"), some)
        return self._runner.steps - before


class Theirs:
    """RLlib's runner."""

    def __init__(self, index: int, config: EnvConfig, width: int, module: bool) -> None:
        env: Callable[[Any], gymnasium.Env] = lambda _: make(config, index)  # noqa: E731
        settings = AlgorithmConfig().environment(env=env).env_runners(num_envs_per_env_runner=width)
        if module:
            settings = settings.rl_module(rl_module_spec=RLModuleSpec(module_class=RandomRLModule))
        self._runner = SingleAgentEnvRunner(config=settings, worker_index=index + 1)
        assert (self._runner.module is not None) == module
        self._random = not module

    def play(self, episodes: int) -> int:
        found = self._runner.sample(num_timesteps=episodes * STEPS, random_actions=self._random)
        return sum(map(len, found))


@contextmanager
def server(durability: Durability) -> Iterator[ReplayConfig]:
    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedRedis(Path(folder), max_bytes=2**28, durability=durability)
        try:
            yield ReplayConfig(url=redis.start(), durability=durability, max_bytes=2**28)
        finally:
            redis.stop()


@contextmanager
def sides(config: EnvConfig, episodes: int) -> Iterator[dict[str, Turn]]:
    """Both processes of each side, at work together."""
    with ExitStack() as stack:
        disk, memory = (stack.enter_context(server(durability)) for durability in ("process", "none"))
        makers: dict[str, Callable[[int], Any]] = {
            "bare": lambda index: _remote(Bare, config, 1),
            "in turn": lambda index: _remote(Bare, config, WIDTH),
            "evaluate": lambda index: _remote(Ours, index, config, None),
            "collect": lambda index: _remote(Ours, index, config, disk),
            "in memory": lambda index: _remote(Ours, index, config, memory),
            "RLlib": lambda index: _remote(Theirs, index, config, WIDTH, False),
            "RLlib 1": lambda index: _remote(Theirs, index, config, 1, False),
            "RLlib RLM": lambda index: _remote(Theirs, index, config, WIDTH, True),
        }
        if config.pixels:
            del makers["evaluate"]
        actors = {name: [maker(index) for index in range(PROCESSES)] for name, maker in makers.items()}
        yield {name: partial(_play, pair, episodes) for name, pair in actors.items()}
        for actor in itertools.chain.from_iterable(actors.values()):
            ray.kill(actor)


def _remote(kind: type, *given: Any) -> Any:
    return ray.remote(kind).options(num_cpus=0, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}).remote(*given)


def _play(pair: list[Any], episodes: int) -> int:
    return sum(ray.get([actor.play.remote(episodes) for actor in pair]))


def measured(config: EnvConfig, episodes: int, repetitions: int) -> dict[str, list[float]]:
    """Steps a second of each turn by side."""
    rates: dict[str, list[float]] = {}
    with sides(config, episodes) as found:
        for turn in found.values():
            turn()  # they start, and render for the first time
        for number in range(repetitions):
            for name in list(found)[:: 1 if number % 2 == 0 else -1]:
                begun = time.perf_counter()
                steps = found[name]()
                rates.setdefault(name, []).append(steps / (time.perf_counter() - begun))
    return rates


def report(repetitions: int) -> None:
    rows = []
    for what, (config, episodes) in CASES.items():
        rates = measured(config, episodes, repetitions)
        for name, ours in rates.items():
            against = f"{ratio(ours, rates['bare']):.3f}", f"{ratio(ours, rates['RLlib']):.2f}"
            rows.append([what, name, f"{median(ours):.0f}", *against])
    table(["environment", "side", "steps/s", "of the bare loop", "of RLlib's"], rows)


@pytest.mark.bench
def test_stepping() -> None:
    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        report(repetitions=3)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    given = arguments(__doc__)
    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, configure_logging=False)
    report(given.repetitions or 9)
