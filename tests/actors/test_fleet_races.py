"""Kills, freezes and changes of size at random moments, while two environments are played: what arrives is whole."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest
from fleet_kit import SEED, Feeder, MakeFleet, fleets, whole_episodes

from actors.fleet import Done, Fleet
from actors.runner import episode_seed
from replay.config import ReplayConfig
from replay.shards.status import status as replay_status

TASKS = ("counting/100-300", "counting/40")
ROUNDS = 25  # of trouble


@pytest.fixture
def fleet(cluster: None, replay: ReplayConfig, run: str) -> Iterator[MakeFleet]:
    with fleets(replay, run) as make:
        yield make


class Trouble:
    """Hits a runner that is up, or changes the number of runners; remembers what it did."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet, self.rng = fleet, random.Random(seed)
        self.hit: Counter[str] = Counter()
        self.sizes = {0: 2, 1: 1}

    def strike(self) -> None:
        up = [runner for runner in self.fleet.status() if runner.state in ("idle", "busy")]
        kind = self.rng.choice(["kill", "kill", "freeze", "resize", "resize"])
        if kind == "resize":
            member = self.rng.choice([0, 1])
            self.sizes[member] = self.rng.randint(1, 2)
            self.fleet.resize(self.sizes[member], member)
        elif up:
            with suppress(ProcessLookupError):
                os.kill(self.rng.choice(up).pid, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
                self.hit[kind] += 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mixed_trouble(fleet: MakeFleet, replay: ReplayConfig, run: str, seed: int) -> None:
    one = fleet(*TASKS, width=2, runners=2, stall_s=4.0, quarantine_after=1000, max_retries=1000, cpus_per_runner=0.9)
    trouble = Trouble(one, seed)
    feeders = [Feeder(one, ahead=4, member=member) for member in (0, 1)]
    for _ in range(ROUNDS):
        until = time.monotonic() + trouble.rng.uniform(0.2, 2.0)
        feed(one, feeders, until)
        trouble.strike()
    finish(one, feeders)
    for member, feeder in enumerate(feeders):
        check(feeder.done, replay, f"{run}-{member}", TASKS[member])
    figures = one.figures()
    failed = sum(value for name, value in figures.items() if name.startswith("failures_"))
    assert failed >= sum(done.retries for feeder in feeders for done in feeder.done)
    assert figures["failures_stalled"] <= trouble.hit["freeze"] + 2  # a slow machine may freeze one by itself
    assert figures["episodes"] == sum(feeder.given for feeder in feeders)
    assert len(one.status()) == sum(trouble.sizes.values())


def feed(fleet: Fleet, feeders: list[Feeder], until: float) -> None:
    while time.monotonic() < until:
        for feeder in feeders:
            feeder.top_up()
        take(fleet, feeders)


def finish(fleet: Fleet, feeders: list[Feeder]) -> None:
    deadline = time.monotonic() + 240
    while any(len(feeder.done) < feeder.given for feeder in feeders):
        assert time.monotonic() < deadline, fleet.status()
        take(fleet, feeders)


def take(fleet: Fleet, feeders: list[Feeder]) -> None:
    for done in fleet.poll(0.05):
        feeders[done.work.member].done.append(done)


def check(done: list[Done], replay: ReplayConfig, run: str, task: str) -> None:
    """Each episode came back once, is there whole, and every acknowledged step is counted."""
    assert [one.error for one in done if one.error] == []
    numbers = [number for one in done for number in one.work.numbers]
    assert sorted(numbers) == list(range(len(numbers)))
    copies = Counter(whole_episodes(replay, run, task))
    assert set(copies) == {episode_seed(SEED, number) for number in numbers}
    twice = {seed for seed, count in copies.items() if count > 1}
    again = {episode_seed(SEED, number) for one in done if one.retries for number in one.work.numbers}
    assert twice <= again  # a runner that dies between its last commit and its answer
    assert replay_status(replay, run).inserted_steps >= sum(one.stats.steps for one in done if one.stats)
