"""How long a learner waits for its batches, as a share of its time, while two runners collect into the same Redis.

The learner group, the fleet, Ray and Redis of a run at size=cpu, two stages of Dreamer 4. The peer is the same learner
with prefetch=0, which draws each batch when it is needed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from timing import table

from distwm.config import RunConfig, load
from distwm.crew import Crew
from distwm.evaluate import policy_spec
from distwm.placement import Shares, shares
from replay.shards.server import EmbeddedRedis
from replay.shards.status import status

RUN, POLICY, STAGES = "bench", "behaviour", ("tokenizer", "dynamics")
FIRST, PIECE, WARM_UP, SLICE = 100, 20, 10, 25  # episodes, episodes, updates, updates
TARGET = 0.05


class Collector:
    """Two runners that play episode after episode, in a thread of ours."""

    def __init__(self, crew: Crew) -> None:
        self._fleet, self._numbers = crew.fleet, itertools.count(0, PIECE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.steps, self.failure = 0, ""

    def collect(self, episodes: int) -> None:
        for _ in range(0, episodes, PIECE):
            first = next(self._numbers)
            self.steps += self._fleet.collect(policy_spec(POLICY), range(first, first + PIECE), None).steps

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self.collect(PIECE)
        except Exception as error:  # noqa: BLE001  (said at the end)
            self.failure = str(error)

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(timeout=120)
        assert not self.failure, self.failure


@contextmanager
def world() -> Iterator[tuple[RunConfig, Shares]]:
    """A Ray and a Redis of our own."""
    config = load("dreamer4", {"size": "cpu"})
    ray.init(
        address="local",
        num_cpus=os.cpu_count() or 1,
        object_store_memory=2**28,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "MUJOCO_GL": "osmesa"}},
    )
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedRedis(Path(directory) / "replay", config.replay.max_bytes)
        try:
            yield (
                replace(config, replay=replace(config.replay, url=server.start())),
                shares(config, ray.cluster_resources()),
            )
        finally:
            ray.shutdown()
            server.stop()


def train(crew: Crew, collector: Collector, objective: str, seconds: float) -> list[float]:
    """Data wait (share of the time), updates and runners' steps, both per second."""
    learners, updates, waited_s = crew.learners, 0, 0.0
    learners.begin(objective, objective, 10**6)
    learners.update(WARM_UP)
    begun_s, before = time.monotonic(), collector.steps
    while (wall_s := time.monotonic() - begun_s) < seconds:
        slice_s = time.monotonic()
        wait = learners.update(SLICE)["data_wait"]
        waited_s += wait * (time.monotonic() - slice_s)
        updates += SLICE
    stored = status(crew.config.replay, RUN).inserted_steps
    assert stored >= before, "the replay counts what the runners collected"
    return [waited_s / wall_s, updates / wall_s, (collector.steps - before) / wall_s]


def measure(seconds: float) -> dict[tuple[str, int], list[float]]:
    """By stage and prefetch."""
    found = {}
    with world() as (config, share):
        acting = Crew(config, RUN, Path("."), share)
        collector = Collector(acting)
        collector.collect(FIRST)
        with collector:
            for prefetch in (config.learner.prefetch, 0):
                learner = replace(config.learner, prefetch=prefetch)
                crew = Crew(replace(config, learner=learner), RUN, Path("."), share)
                for stage in STAGES:
                    found[stage, prefetch] = train(crew, collector, stage, seconds)
                crew.close()
        acting.close()
    return found


def report(seconds: float) -> dict[tuple[str, int], list[float]]:
    found = measure(seconds)
    rows = [
        [stage, prefetch, f"{wait:.1%}", f"{updates:.1f}", f"{steps:.0f}"]
        for (stage, prefetch), (wait, updates, steps) in found.items()
    ]
    table(["stage", "prefetch", "data wait", "updates/s", "runners' steps/s meanwhile"], rows)
    return found


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_data_wait() -> None:
    found = report(seconds=20)
    assert all(wait < TARGET for (_, prefetch), (wait, *_) in found.items() if prefetch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each stage")
    report(parser.parse_args().seconds)
