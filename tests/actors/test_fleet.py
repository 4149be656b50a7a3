from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig, episode_spec
from actors.fleet import Fleet, FleetConfig, Member
from actors.policies import PolicySpec
from actors.runner import EnvRunner, RunnerConfig, episode_seed
from replay.config import ReplayConfig
from replay.errors import BadInput, TryAgain
from replay.sources.redis_source import RedisSource

RANDOM = PolicySpec(name="random")
MakeFleet = Callable[..., Fleet]


@pytest.fixture
def fleet(cluster: None, replay: ReplayConfig, run: str) -> Iterator[MakeFleet]:
    made: list[Fleet] = []

    def make(task: str, width: int = 2, **options) -> Fleet:
        settings = {"runners": 2, "call_timeout_s": 60.0, "restart_timeout_s": 60.0} | options
        config = FleetConfig(**settings)
        env = EnvConfig(task=task, image_size=4, render_size=8)
        made.append(
            Fleet(
                config,
                [Member(env=env, run=run, runners=config.runners)],
                runner=RunnerConfig(envs_per_runner=width),
                replay=replay,
                system=None,
                seed=7,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def whole_episodes(replay: ReplayConfig, run: str, task: str) -> list[int]:
    """Seeds of the episodes that reached their end, once for each copy."""
    source = RedisSource(replay, run, episode_spec(EnvConfig(task=task, image_size=4, render_size=8)))
    source.refresh()
    found = []
    for key in [*source.episodes("train"), *source.episodes("valid")]:
        arrays = source.episode(key).arrays
        np.testing.assert_array_equal(arrays["count"][:, 3], np.arange(len(arrays["reward"])))  # whole or truncated
        np.testing.assert_array_equal(arrays["action"], arrays["state"])
        if arrays["is_last"][-1]:
            found.append(int(arrays["count"][0, 2]))
    return sorted(found)


def seeds(count: int) -> list[int]:
    return sorted(episode_seed(7, number) for number in range(count))


def process(runner: int, fleet: Fleet) -> int:
    """Its process id, once it is up."""
    deadline = time.monotonic() + 60
    while True:
        fleet.poll(0.1)
        found = fleet.status()[runner]
        if found.state in ("idle", "busy"):
            return found.pid
        assert time.monotonic() < deadline, f"the runner did not come back: {found}"


def test_delivers_every_episode_once_and_in_order(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    stats = fleet("counting/5-12").collect(RANDOM, range(11), None)
    assert whole_episodes(replay, run, "counting/5-12") == seeds(11)
    alone = EnvRunner(
        9, EnvConfig(task="counting/5-12"), RunnerConfig(), None, "", BehaviourConfig(), None, seed=7
    ).evaluate(RANDOM, [episode_seed(7, number) for number in range(11)])
    assert stats.returns == tuple(result.total_reward for result in alone)
    assert (stats.episodes, stats.retries) == (11, 0)
    assert stats.steps == sum(result.length + 1 for result in alone)


def test_a_runner_killed_at_work_costs_no_episode(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    """SIGKILL in the middle of a call: the other runner and the restarted one deliver everything."""
    one = fleet("counting/2000")
    victim = process(0, one)
    process(1, one)

    def kill() -> None:
        time.sleep(0.3)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    stats = one.collect(RANDOM, range(8), None)
    killer.join()
    assert whole_episodes(replay, run, "counting/2000") == seeds(8)
    assert stats.retries == 1
    assert stats.episodes == 8
    assert process(0, one) != victim
    one.collect(RANDOM, range(8, 10), None)
    assert whole_episodes(replay, run, "counting/2000") == seeds(10)


def test_crashing_simulators_are_tried_again(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    stats = fleet("faulty/crash@0.01", max_retries=20, quarantine_after=20, backoff_s=0.05).collect(
        RANDOM, range(12), None
    )
    assert set(whole_episodes(replay, run, "faulty/crash@0.01")) == set(seeds(12))
    assert stats.episodes == 12


def test_a_stalled_runner_is_replaced_at_the_deadline(fleet: MakeFleet) -> None:
    one = fleet("faulty/stall@1.0", call_timeout_s=6.0, max_retries=0, runners=1)
    victim = process(0, one)
    with pytest.raises(TryAgain, match=r"collect of episodes 0 to 1 .*no result within call_timeout_s=6"):
        one.collect(RANDOM, range(2), None)
    assert one.failures == 1
    assert process(0, one) != victim


def test_our_own_errors_come_as_they_are_and_leave_the_fleet_usable(fleet: MakeFleet) -> None:
    one = fleet("faulty/nan@3")
    with pytest.raises(BadInput, match="reward is nan at step 4") as caught:
        one.collect(RANDOM, range(2), None)
    assert "must be finite" in caught.value.mend
    results = fleet("counting/5").evaluate(RANDOM, range(7), None, keep_frames=3)
    assert [result.seed for result in results] == list(range(7))
    assert [result.frames is not None for result in results] == [True] * 3 + [False] * 4
    with pytest.raises(BadInput, match="reward is nan"):  # and again, not a stale answer
        one.evaluate(RANDOM, range(2), None)


def test_a_fleet_without_runners_says_so(fleet: MakeFleet) -> None:
    one = fleet("counting/5", runners=1, max_restarts=0, restart_timeout_s=2.0)
    os.kill(process(0, one), signal.SIGKILL)
    with pytest.raises(TryAgain, match="None of 1 runners is up after 2 s"):
        one.collect(RANDOM, range(2), None)


def test_a_fleet_that_finds_no_cpus_says_so(fleet: MakeFleet) -> None:
    one = fleet("counting/5", runners=1, cpus_per_runner=100.0, restart_timeout_s=2.0)
    with pytest.raises(TryAgain, match="100 free CPUs"):
        one.collect(RANDOM, range(2), None)
