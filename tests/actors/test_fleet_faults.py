"""Runners that die, hang, stand still or fail again and again: they are replaced or set aside; no episode is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from fleet_kit import RANDOM, Feeder, MakeFleet, collecting, fleets, process, results, seeds, until, whole_episodes

from actors.fleet import RunnerStatus
from replay.config import ReplayConfig
from replay.errors import TryAgain


@pytest.fixture
def fleet(cluster: None, replay: ReplayConfig, run: str) -> Iterator[MakeFleet]:
    with fleets(replay, run) as make:
        yield make


def test_a_runner_killed_at_work_costs_no_episode(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    """SIGKILL in the middle of a call: the other runner and the restarted one deliver everything."""
    one = fleet("counting/20000")
    victim = process(0, one)
    process(1, one)
    killer = threading.Timer(0.3, os.kill, (victim, signal.SIGKILL))
    killer.start()
    stats = one.collect(RANDOM, range(8), None)
    killer.join()
    assert whole_episodes(replay, run, "counting/20000") == seeds(8)
    assert stats.retries == 1
    assert stats.episodes == 8
    assert process(0, one) != victim
    one.collect(RANDOM, range(8, 10), None)
    assert whole_episodes(replay, run, "counting/20000") == seeds(10)
    assert one.status()[0].failures == {"died": 1}
    assert one.status()[0].restarts == 1


def test_crashing_simulators_are_tried_again(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    one = fleet("faulty/crash@0.01", max_retries=20, quarantine_after=20)
    stats = one.collect(RANDOM, range(12), None)
    assert set(whole_episodes(replay, run, "faulty/crash@0.01")) == set(seeds(12))
    assert stats.episodes == 12
    assert one.figures()["failures_error"] == stats.retries
    assert one.figures()["restarts"] == 0  # the simulator is made again, not the runner


def test_a_piece_that_takes_too_long_ends_its_runner(fleet: MakeFleet) -> None:
    one = fleet("faulty/stall@1.0", call_timeout_s=3.0, max_retries=0, runners=1, stall_s=60.0)
    victim = process(0, one)
    with pytest.raises(TryAgain, match=r"collect of episodes 0 to 1 .*no result within fleet\.call_timeout_s=3"):
        one.collect(RANDOM, range(2), None)
    assert one.status()[0].failures == {"overdue": 1}
    assert process(0, one) != victim


def test_a_runner_whose_counter_stands_still_is_replaced(fleet: MakeFleet, replay: ReplayConfig, run: str) -> None:
    """One that hangs in its simulator, and one that is frozen with all its threads while it plays."""
    one = fleet("faulty/stall@1.0", "counting/300", runners=1, width=1, stall_s=4.0, max_retries=0)
    one.submit(collecting([0], 0))
    (hung,) = results(one, 1)
    assert isinstance(hung.error, TryAgain)
    assert "no step within 5 s" in hung.error.message  # stall_s, and start_s for what is being made
    assert one.status()[0].failures == {"stalled": 1}
    feeder = Feeder(one, ahead=2, member=1)
    feeder.until(lambda status: status[1].episodes >= 1 and status[1].state == "busy")
    frozen = one.status()[1].pid
    os.kill(frozen, signal.SIGSTOP)
    begun = time.monotonic()
    while not (done := one.poll(1.0)) or done[0].error is None:
        feeder.done += done
    (stalled,) = done
    assert stalled.error is not None
    assert "no step within 4 s" in stalled.error.message
    noticed = time.monotonic()
    assert process(1, one) != frozen
    print(f"frozen, stall_s=4: noticed after {noticed - begun:.2f} s, back after {time.monotonic() - begun:.2f} s")
    assert gone(frozen)
    assert one.figures()["failures_stalled"] == 2


def test_one_that_crashes_again_and_again_rests_while_the_others_finish(
    fleet: MakeFleet, replay: ReplayConfig, run: str
) -> None:
    one = fleet("counting/300", width=1, quarantine_after=2, quarantine_s=4.0)
    feeder = Feeder(one, ahead=4)
    killed: set[int] = set()

    def resting(status: list[RunnerStatus]) -> bool:
        if status[0].state == "busy" and status[0].pid not in killed:
            killed.add(status[0].pid)
            os.kill(status[0].pid, signal.SIGKILL)
        return status[0].state == "quarantined"

    feeder.until(resting)
    status = one.status()
    died = status[0].failures["died"]
    assert died >= 2  # in a row: one that ended its piece just before it was killed begins the count again
    assert 0 < status[0].again_s <= 4.0
    assert one.figures()["quarantined"] == 1
    played, others = status[0].episodes, status[1].episodes
    feeder.until(lambda status: status[1].episodes >= others + 2)  # they go on
    feeder.until(lambda status: status[0].episodes > played)  # tried again, and well
    assert feeder.finish() == list(range(feeder.given))
    assert whole_episodes(replay, run, "counting/300") == seeds(feeder.given)
    assert one.status()[0].state == "idle"
    assert one.figures()["restarts"] == died == len(killed)


def test_an_environment_whose_runners_all_rest_does_not_stop_the_others(
    fleet: MakeFleet, replay: ReplayConfig, run: str
) -> None:
    """Their work comes back with the cause; a call that waits for them raises it."""
    one = fleet("faulty/kill@1.0", "counting/50", runners=1, width=1, quarantine_after=1)
    for number in range(3):
        one.submit(collecting([number], 0))
        one.submit(collecting([number], 1))
    done = results(one, 6)
    lost = [one for one in done if one.work.member == 0]
    assert all(isinstance(one.error, TryAgain) for one in lost)
    assert "Each of 1 runners of faulty/kill@1.0 failed 1 times in a row and rests" in str(lost[0].error)
    assert "died" in str(lost[0].error)
    assert [one.error for one in done if one.work.member == 1] == [None] * 3
    assert whole_episodes(replay, f"{run}-1", "counting/50") == seeds(3)
    with pytest.raises(TryAgain, match="rests"):
        one.evaluate(RANDOM, range(2), None, member=0)
    assert len(one.evaluate(RANDOM, range(2), None, member=1)) == 2


def test_a_fleet_without_runners_says_so(fleet: MakeFleet) -> None:
    one = fleet("counting/5", runners=1, max_restarts=0, restart_timeout_s=2.0)
    os.kill(process(0, one), signal.SIGKILL)
    with pytest.raises(TryAgain, match="None of 1 runners is up after 2 s") as caught:
        one.collect(RANDOM, range(2), None)
    assert "died" in str(caught.value)
    assert one.status()[0].again_s == -1


def test_work_is_not_given_up_because_nobody_looked(fleet: MakeFleet) -> None:
    """Its only runner dies, and the fleet hears of it later than it waits for a runner to come back."""
    one = fleet("counting/30000", runners=1, width=1)
    victim = process(0, one)
    one.submit(collecting([0]))
    until(one, lambda status: status[0].state == "busy")
    os.kill(victim, signal.SIGKILL)
    one._desk._up_s[0] -= 100.0  # so long nobody looked
    one._crew.turned_s -= 100.0
    (done,) = results(one, 1)
    assert done.error is None
    assert done.retries == 1


def test_one_that_dies_while_idle_is_there_when_it_is_needed(fleet: MakeFleet) -> None:
    one = fleet("counting/5", runners=1)
    victim = process(0, one)
    os.kill(victim, signal.SIGKILL)
    begun = time.monotonic()
    until(one, lambda status: status[0].state != "idle")
    noticed = time.monotonic()
    until(one, lambda status: status[0].state == "idle" and status[0].pid != victim)
    print(f"a runner that died: noticed after {noticed - begun:.2f} s, back after {time.monotonic() - begun:.2f} s")
    stats = one.collect(RANDOM, range(2), None)
    assert (stats.episodes, stats.retries) == (2, 0)


def gone(pid: int) -> bool:
    """Whether the process ends; one that is a zombie has."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False
