"""Steps a second of two runners with random actions, each in a process of its own, against a bare loop in two
processes (make the environment, step it, keep nothing) and against two of RLlib's SingleAgentEnvRunner.

All are in two Ray actors on one machine. Both play one side at the same time, and the sides take turns. Redis, which
the runners commit to, runs on the same cores. Steps a second are by the wall's clock and want a machine that has
nothing else to do; processor time for a step, that of Redis included, does so less.

    bare        one environment in each process
    in turn     the same with 8 in each process, stepped one after the other: what a batch of decisions costs the caches
    evaluate    EnvRunner.evaluate: no replay. It renders nothing for random actions, so there is none with pixels
    collect     EnvRunner.collect into an embedded Redis with an append-only file (durability=process)
    in memory   the same with durability=none
    RLlib       SingleAgentEnvRunner.sample(random_actions=True) with 8 environments and no module, hence no connectors:
                the least that it can do. (Its RandomRLModule does not start in an EnvRunner of Ray 2.60.)
    RLlib 1     with one environment
"""

from __future__ import annotations

import itertools
import os
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
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from timing import arguments, ratio, table

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig, make
from actors.policies import PolicySpec
from actors.runner import EnvRunner, RunnerConfig
from replay.config import Durability, ReplayConfig
from replay.shards.server import EmbeddedRedis

PROCESSES, WIDTH, STEPS = 2, 8, 250  # runners, environments of each, decisions of an episode
CASES = {  # what, configuration, episodes of each process in a turn
    "dmc cartpole, state": (EnvConfig(task="dmc/cartpole_swingup", pixels=False), 8),
    "dmc walker, state": (EnvConfig(task="dmc/walker_walk", pixels=False), 8),
    "dmc walker, 64 px": (EnvConfig(task="dmc/walker_walk", image_size=64, render_size=64), 8),
}
Played = tuple[int, float]  # steps, and seconds of processor time
Turn = Callable[[], Played]


class Bare:
    """The loop, over `width` environments."""

    def __init__(self, config: EnvConfig, width: int) -> None:
        self._envs = [make(config, number) for number in range(width)]
        self._rng = np.random.default_rng(0)

    def play(self, episodes: int) -> int:
        """Steps."""
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

    def __init__(self, index: int, config: EnvConfig, width: int) -> None:
        env: Callable[[Any], gymnasium.Env] = lambda _: make(config, index)  # noqa: E731
        settings = AlgorithmConfig().environment(env=env).env_runners(num_envs_per_env_runner=width)
        self._runner = SingleAgentEnvRunner(config=settings, worker_index=index + 1)

    def play(self, episodes: int) -> int:
        found = self._runner.sample(num_timesteps=episodes * STEPS, random_actions=True)
        return sum(map(len, found))


@contextmanager
def server(durability: Durability) -> Iterator[tuple[ReplayConfig, int]]:
    """Its configuration and its process."""
    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedRedis(Path(folder), max_bytes=2**28, durability=durability)
        try:
            config = ReplayConfig(url=redis.start(), durability=durability, max_bytes=2**28)
            assert redis.pid is not None
            yield config, redis.pid
        finally:
            redis.stop()


class Process:
    """One of the two: every side is in it, and one at a time works."""

    def __init__(self, index: int, config: EnvConfig, disk: ReplayConfig, memory: ReplayConfig) -> None:
        self._sides: dict[str, Any] = {
            "bare": Bare(config, 1),
            "in turn": Bare(config, WIDTH),
            "evaluate": Ours(index, config, None),
            "collect": Ours(index, config, disk),
            "in memory": Ours(index, config, memory),
            "RLlib": Theirs(index, config, WIDTH),
            "RLlib 1": Theirs(index, config, 1),
        }
        if config.pixels:
            del self._sides["evaluate"]

    def names(self) -> list[str]:
        return list(self._sides)

    def play(self, side: str, episodes: int) -> Played:
        begun = time.process_time()
        return self._sides[side].play(episodes), time.process_time() - begun


@contextmanager
def sides(config: EnvConfig, episodes: int) -> Iterator[dict[str, Turn]]:
    """Both processes of each side, at work together."""
    with ExitStack() as stack:
        (disk, disk_pid), (memory, memory_pid) = (stack.enter_context(server(kind)) for kind in ("process", "none"))
        gl = os.environ.get("MUJOCO_GL", "osmesa")  # RLlib imports MuJoCo before dmc.py can say so
        variables = {"OMP_NUM_THREADS": "1", "MUJOCO_GL": gl}
        remote = ray.remote(Process).options(num_cpus=0, runtime_env={"env_vars": variables})
        pair = [remote.remote(index, config, disk, memory) for index in range(PROCESSES)]
        servers = {"collect": disk_pid, "in memory": memory_pid}
        names = ray.get(pair[0].names.remote())
        yield {name: partial(_play, pair, name, episodes, servers.get(name)) for name in names}
        for actor in pair:
            ray.kill(actor)


def _play(pair: list[Any], side: str, episodes: int, redis: int | None) -> Played:
    begun = _processor_s(redis)
    steps, seconds = zip(*ray.get([actor.play.remote(side, episodes) for actor in pair]), strict=True)
    return sum(steps), sum(seconds) + _processor_s(redis) - begun


def _processor_s(pid: int | None) -> float:
    """That a process has had so far."""
    if pid is None:
        return 0.0
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def measured(config: EnvConfig, episodes: int, repetitions: int) -> dict[str, list[tuple[float, float]]]:
    """Steps a second, and steps a second of processor time, of each turn by side."""
    rates: dict[str, list[tuple[float, float]]] = {}
    with sides(config, episodes) as found:
        for turn in found.values():
            turn()  # they start, and render for the first time
        for number in range(repetitions):
            for name in list(found)[:: 1 if number % 2 == 0 else -1]:
                begun = time.perf_counter()
                steps, processor_s = found[name]()
                rates.setdefault(name, []).append((steps / (time.perf_counter() - begun), steps / processor_s))
    return rates


def report(repetitions: int) -> None:
    for what, (config, episodes) in CASES.items():
        rows = []
        rates = {name: list(zip(*of, strict=True)) for name, of in measured(config, episodes, repetitions).items()}
        for name, (by_wall, by_processor) in rates.items():
            against = [ratio(by_wall, rates["bare"][0]), ratio(by_processor, rates["bare"][1])]
            against.append(ratio(by_wall, rates["RLlib"][0]))
            micros = f"{1e6 / median(by_processor):.0f}"
            rows.append([name, f"{median(by_wall):.0f}", micros, *(f"{share:.2f}" for share in against)])
        table([what, "steps/s", "processor us/step", "of bare", "of bare, processor", "of RLlib's"], rows)
        print(flush=True)


@contextmanager
def cluster() -> Iterator[None]:
    os.environ.update(RAY_worker_niceness="0")  # beside whatever else runs, they are as important as Redis
    ray.init("local", num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.mark.bench
def test_stepping() -> None:
    with cluster():
        report(repetitions=3)


if __name__ == "__main__":
    given = arguments(__doc__)
    with cluster():
        report(given.repetitions or 9)
