"""A fleet at work: what is asked of it comes back once and in order, whoever plays, and it says how its runners are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fleet_kit import RANDOM, SEED, Feeder, MakeFleet, collecting, env_of, fleets, results, seeds, until, whole_episodes

from actors.behaviour import BehaviourConfig
from actors.fleet import Fleet, FleetConfig, Member, Work
from actors.results import EpisodeResult
from actors.runner import EnvRunner, RunnerConfig, episode_seed
from replay.config import ReplayConfig
from replay.errors import BadInput, TryAgain


@pytest.fixture
def fleet(cluster: None, replay: ReplayConfig, run: str) -> Iterator[MakeFleet]:
    with fleets(replay, run) as make:
        yield make


def played_alone(task: str, count: int) -> list[EpisodeResult]:
    runner = EnvRunner(9, env_of(task), RunnerConfig(), None, "", BehaviourConfig(), None, seed=SEED)
    return runner.evaluate(RANDOM, [episode_seed(SEED, number) for number in range(count)])


def test_delivers_every_episode_once_and_in_order(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    """And says what its runners did: the figures of the same episodes, played alone."""
    one = fleet("counting/5-12")
    until(one, lambda status: {runner.state for runner in status} == {"idle"})
    stats = one.collect(RANDOM, range(11), None)
    assert whole_episodes(replay, run, "counting/5-12") == seeds(11)
    alone = played_alone("counting/5-12", 11)
    assert stats.returns == tuple(result.total_reward for result in alone)
    assert (stats.episodes, stats.retries) == (11, 0)
    assert stats.lengths == tuple(result.length for result in alone)
    assert stats.steps == sum(result.length + 1 for result in alone)
    assert stats.env_steps == sum(result.length for result in alone)
    again = one.evaluate(RANDOM, [episode_seed(SEED, number) for number in range(7)], None, keep_frames=3)
    assert [result.total_reward for result in again] == [result.total_reward for result in alone[:7]]
    assert [result.frames is not None for result in again] == [True] * 3 + [False] * 4
    status, figures = one.status(), one.figures()
    assert [runner.index for runner in status] == [0, 1]
    assert {runner.state for runner in status} == {"idle"}
    assert {runner.task for runner in status} == {"counting/5-12"}
    assert all(runner.steps and runner.pid and not runner.failures and not runner.restarts for runner in status)
    assert sum(runner.steps for runner in status) == stats.steps + sum(result.length for result in again)
    assert sum(runner.episodes for runner in status) == 18
    assert (figures["steps"], figures["episodes"]) == (sum(runner.steps for runner in status), 18)
    assert (figures["runners"], figures["up"], figures["restarts"], figures["lag_max"]) == (2, 2, 0, 0)
    assert one.failures == 0


def test_runners_explore_as_one_that_plays_alone(fleet: MakeFleet) -> None:
    """The noise of an episode depends on how many came before it, whoever plays; that of an evaluation does not."""
    one = fleet("counting/5-12", width=1)
    explored = {
        task: [work.policy.explored for work in one._pieces(task, replace(RANDOM, explored=6), range(4), None, 0)]
        for task in ("collect", "evaluate")
    }
    assert explored == {"collect": [6, 7, 8, 9], "evaluate": [6] * 4}


def test_two_environments_in_one_fleet(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    """Each with runs and runners of its own; work that is submitted and work that is waited for keep apart."""
    one = fleet("counting/5-12", "counting/30", runners=1)
    submitted = [Work(policy=RANDOM, numbers=(n, n + 1), member=1, label=n) for n in (0, 2, 4)]
    for work in submitted:
        one.submit(work)
    stats = one.collect(RANDOM, range(5), None, member=0)
    assert stats.episodes == 5
    done = results(one, 3)
    assert sorted(one.work.label for one in done) == [0, 2, 4]
    assert all(one.stats and one.stats.episodes == 2 and one.error is None and one.runner == 1 for one in done)
    assert whole_episodes(replay, f"{run}-0", "counting/5-12") == seeds(5)
    assert whole_episodes(replay, f"{run}-1", "counting/30") == seeds(6)
    assert one.poll(0.0) == []
    status = one.status()
    assert [(runner.index, runner.member, runner.task) for runner in status] == [
        (0, 0, "counting/5-12"),
        (1, 1, "counting/30"),
    ]
    assert [runner.episodes for runner in status] == [5, 6]


def test_it_grows_and_shrinks_at_work(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    one = fleet("counting/300", width=1, runners=1)
    feeder = Feeder(one, ahead=5)
    feeder.until(lambda status: status[0].episodes >= 2)
    one.resize(3)
    feeder.until(lambda status: [runner.state for runner in status] == ["busy"] * 3)
    one.resize(1)
    assert one.size() == 1  # the others are at their last pieces, or closing
    feeder.until(lambda status: len(status) == 1)
    one.resize(2)  # its index was there before, and its streams
    assert [runner.index for runner in one.status()] == [0, 1]
    feeder.until(lambda status: status[1].episodes >= 1)
    assert feeder.finish() == list(range(feeder.given))
    assert {done.retries for done in feeder.done} == {0}
    assert whole_episodes(replay, run, "counting/300") == seeds(feeder.given)
    assert one.figures()["episodes"] == feeder.given
    assert one.figures()["steps"] == feeder.given * 301


def test_runners_without_cpus_hold_nobody_up(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    """Two of three find room in the four CPUs; the third starts when there is some."""
    one = fleet("counting/50", runners=3, cpus_per_runner=2.0)
    assert one.collect(RANDOM, range(8), None).episodes == 8
    status, _ = until(one, lambda status: [runner.state for runner in status].count("idle") == 2)  # one may do it all
    waiting = [runner for runner in status if runner.state == "starting"]
    assert [runner.doing for runner in waiting] == ["waits for Ray to start it"]
    one.resize(2)  # the one that has not started goes first
    assert {runner.state for runner in one.status()} == {"idle"}
    two = fleet("counting/50", runners=1, cpus_per_runner=2.0)
    time.sleep(0.5)
    assert two.status()[0].state == "starting"
    one.resize(1)
    until(one, lambda status: len(status) == 1)
    assert two.collect(RANDOM, range(2), None).episodes == 2


def test_a_fleet_that_finds_no_cpus_says_so(fleet: MakeFleet) -> None:
    one = fleet("counting/5", runners=1, cpus_per_runner=100.0, restart_timeout_s=2.0)
    with pytest.raises(TryAgain, match="100 free CPUs"):
        one.collect(RANDOM, range(2), None)


def test_our_own_errors_come_as_they_are_and_leave_the_fleet_usable(fleet: MakeFleet) -> None:
    one = fleet("faulty/nan@3", "counting/5", runners=1)
    for _ in range(2):  # and again, not a stale answer
        with pytest.raises(BadInput, match="reward is nan at step 4") as caught:
            one.collect(RANDOM, range(3), None)
    assert "must be finite" in caught.value.mend
    one.submit(collecting([0]))
    (done,) = results(one, 1)
    assert isinstance(done.error, BadInput)
    assert [result.seed for result in one.evaluate(RANDOM, range(3), None, member=1)] == [0, 1, 2]
    assert one.failures == 0  # of runners


def test_what_cannot_be_right_is_refused(cluster: None, replay: ReplayConfig, run: str) -> None:
    def make(*members: Member) -> Fleet:
        config, runner = FleetConfig(cpus_per_runner=100.0), RunnerConfig()
        return Fleet(config, members, runner=runner, replay=replay, system=None, seed=0)

    with pytest.raises(BadInput, match="without members"):
        make()
    one = make(Member(env=env_of("counting/5"), run=run))
    try:
        for wrong in (lambda: one.resize(0), lambda: one.resize(2, member=1), lambda: one.submit(collecting([0], 1))):
            with pytest.raises(BadInput):
                wrong()
        with pytest.raises(BadInput, match="no episodes"):
            one.submit(collecting([]))
        assert one.collect(RANDOM, [], None).episodes == 0
    finally:
        one.close()
