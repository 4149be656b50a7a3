"""What the tests of the fleet share: fleets that end with the test, who is up, and what arrived in the replay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from actors.envs.registry import EnvConfig, episode_spec
from actors.fleet import Done, Fleet, FleetConfig, Member, RunnerStatus, Work
from actors.hosting.config import HostConfig
from actors.policies import PolicySpec
from actors.runner import RunnerConfig, episode_seed
from replay.config import ReplayConfig
from replay.sources.redis_source import RedisSource

RANDOM = PolicySpec(name="random")
SEED = 7
PATIENCE_S = 60.0
QUICK = {"call_timeout_s": 60.0, "restart_timeout_s": 60.0, "backoff_s": 0.1}

MakeFleet = Callable[..., Fleet]


def env_of(task: str, **settings: Any) -> EnvConfig:
    host = HostConfig(start_s=1.0, reset_s=1.0)
    return EnvConfig(task=task, image_size=4, render_size=8, host=host, **settings)


@contextmanager
def fleets(replay: ReplayConfig, run: str) -> Iterator[MakeFleet]:
    """Makes fleets that collect into `run`, or those of several tasks into `run`-<number>; closes them in the end."""
    made: list[Fleet] = []

    def make(*tasks: str, width: int = 2, runners: int = 2, extra_cpus: float | None = None, **settings: Any) -> Fleet:
        runs = [run] if len(tasks) == 1 else [f"{run}-{number}" for number in range(len(tasks))]
        made.append(
            Fleet(
                FleetConfig(**QUICK | settings),
                [Member(env=env_of(t), run=r, runners=runners) for t, r in zip(tasks, runs, strict=True)],
                runner=RunnerConfig(envs_per_runner=width),
                replay=replay,
                system=None,
                seed=SEED,
                extra_cpus=extra_cpus,
            )
        )
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.close()


def whole_episodes(replay: ReplayConfig, run: str, task: str) -> list[int]:
    """Seeds of the episodes that reached their end, once for each copy."""
    source = RedisSource(replay, run, episode_spec(env_of(task)))
    source.refresh()
    found = []
    for key in [*source.episodes("train"), *source.episodes("valid")]:
        arrays = source.episode(key).arrays
        np.testing.assert_array_equal(arrays["count"][:, 3], np.arange(len(arrays["reward"])))  # whole or truncated
        np.testing.assert_array_equal(arrays["action"], arrays["state"])
        if arrays["is_last"][-1]:
            found.append(int(arrays["count"][0, 2]))
    return sorted(found)


def seeds(numbers: int | Sequence[int]) -> list[int]:
    """Of the episodes with these numbers, sorted."""
    return sorted(episode_seed(SEED, number) for number in (range(numbers) if isinstance(numbers, int) else numbers))


class Feeder:
    """Has always so many episodes waiting in a fleet or being played, each a work of its own."""

    def __init__(self, fleet: Fleet, ahead: int, member: int = 0) -> None:
        self.fleet, self.ahead, self.member = fleet, ahead, member
        self.given = 0
        self.done: list[Done] = []

    def until(self, reached: Callable[[list[RunnerStatus]], bool]) -> None:
        """Feeds until the status is as wanted."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        while not reached(status := self.fleet.status()):
            assert time.monotonic() < deadline, status
            self.top_up()
            self.done += self.fleet.poll(0.05)

    def top_up(self) -> None:
        for _ in range(self.ahead - (self.given - len(self.done))):
            self.fleet.submit(collecting([self.given], self.member))
            self.given += 1

    def finish(self) -> list[int]:
        """Waits for all that was given; the numbers that came back, sorted."""
        self.done += results(self.fleet, self.given - len(self.done))
        assert [one.error for one in self.done if one.error] == []
        return sorted(number for one in self.done for number in one.work.numbers)


def until(fleet: Fleet, reached: Callable[[list[RunnerStatus]], bool]) -> tuple[list[RunnerStatus], list[Done]]:
    """Polls until the status is as wanted; what was done meanwhile."""
    deadline, done = time.monotonic() + PATIENCE_S, []
    while not reached(status := fleet.status()):
        assert time.monotonic() < deadline, status
        done += fleet.poll(0.05)
    return status, done


def process(runner: int, fleet: Fleet) -> int:
    """Its process id, once it is up."""
    status, done = until(fleet, lambda status: status[runner].state in ("idle", "busy"))
    assert not done
    return status[runner].pid


def results(fleet: Fleet, count: int) -> list[Done]:
    """So many."""
    deadline, done = time.monotonic() + 2 * PATIENCE_S, []
    while len(done) < count:
        assert time.monotonic() < deadline, (done, fleet.status())
        done += fleet.poll(0.5)
    return done


def collecting(numbers: Sequence[int], member: int = 0) -> Work:
    return Work(policy=RANDOM, numbers=tuple(numbers), member=member)
