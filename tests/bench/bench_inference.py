"""Decisions a second of 1, 2 and 4 runners that share an inference actor, against runners that act for themselves.

Dreamer 4 at size=cpu in environments that cost nothing, 8 to a runner. Every process has one thread; the clock is the
wall's, as several processes work, and beside it the CPU time of runners and actor together, which a busy machine leaves
as it is. What Ray's own processes use to carry observations is in the first alone.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import ray
import torch
from timing import arguments, table

from actors.envs.registry import episode_spec
from actors.fleet import Fleet, FleetConfig, Member
from actors.inference import InferenceConfig
from actors.inference.messages import Health
from actors.policies import PolicySpec
from actors.runner import RunnerConfig
from distwm.config import load
from learners.weights import Weights

ENVS, LENGTH = 8, 250  # to a runner; decisions of an episode
POLICY = PolicySpec(name="bc")


class Side:
    """One fleet, and what it has done since it was last asked."""

    def __init__(self, fleet: Fleet, weights: ray.ObjectRef) -> None:
        self.fleet, self.weights = fleet, weights

    def play(self, runners: int) -> tuple[float, float]:
        """Decisions a second, by the clock and of the CPU time of the runners and the inference actor together."""
        begun, used = time.perf_counter(), self._cpu_s()
        results = self.fleet.evaluate(POLICY, range(ENVS * runners), self.weights)
        decisions = sum(result.length for result in results)
        return decisions / (time.perf_counter() - begun), decisions / max(self._cpu_s() - used, 1e-9)

    def batches(self) -> tuple[int, int]:
        """Decisions and batches so far."""
        health = self._health()
        assert health is not None
        return health.decisions, health.batches

    def _health(self) -> Health | None:
        inference = self.fleet.inference
        return None if inference is None else ray.get(inference.handles[0].health.remote())

    def _cpu_s(self) -> float:
        health = self._health()
        pids = [runner.pid for runner in self.fleet.status() if runner.pid] + ([health.pid] if health else [])
        return sum(map(_used_s, pids))


def _used_s(pid: int) -> float:
    """CPU seconds of a process, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def build(runners: int, actors: int, cuda: bool) -> Side:
    config = load("dreamer4", {"size": "cpu"})
    env = replace(config.env, task=f"counting/{LENGTH}")
    inference = InferenceConfig(actors=actors, cpus=0.1, gpus=1.0 if cuda else 0.0)
    fleet = Fleet(
        FleetConfig(runners=runners, cpus_per_runner=0.1, restart_timeout_s=600.0, inference=inference),
        [Member(env=env, run="bench", runners=runners)],
        runner=RunnerConfig(envs_per_runner=ENVS),
        replay=None,
        system=config.system,
        seed=0,
    )
    torch.manual_seed(0)
    return Side(fleet, ray.put(Weights.of(config.system.build(episode_spec(env)), version=1)))


def measure(runners: int, repetitions: int, cuda: bool) -> list[object]:
    """Turn by turn, after one turn to start the processes."""
    sides = [build(runners, actors, cuda) for actors in (0, 1)]
    for side in sides:
        side.play(runners)
    before = sides[1].batches()
    alone: list[tuple[float, float]] = []
    shared: list[tuple[float, float]] = []
    for number in range(repetitions):
        for found, side in ((alone, sides[0]), (shared, sides[1]))[:: 1 if number % 2 == 0 else -1]:
            found.append(side.play(runners))
    decisions, batches = (after - first for after, first in zip(sides[1].batches(), before, strict=True))
    for side in sides:
        side.fleet.close()
    cells: list[object] = [runners, f"{decisions / batches:.1f}"]
    for mine, theirs in zip(zip(*shared, strict=True), zip(*alone, strict=True), strict=True):
        faster = median(a / b for a, b in zip(mine, theirs, strict=True))
        cells += [f"{median(theirs):.0f}", f"{median(mine):.0f}", f"{faster:.2f}x"]
    return cells


def report(repetitions: int, cuda: bool = False) -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    sides = ["alone /s", "shared /s", "faster by", "alone /CPU s", "shared /CPU s", "faster by"]
    head = ["runners", "rows of a batch", *sides]
    try:
        table(head, [measure(runners, repetitions, cuda) for runners in (1, 2, 4)])
    finally:
        ray.shutdown()


@pytest.mark.bench
def test_inference() -> None:
    report(repetitions=3)


if __name__ == "__main__":
    report(arguments(__doc__).repetitions or 5, cuda=torch.cuda.is_available())
