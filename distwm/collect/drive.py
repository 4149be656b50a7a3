"""Gives episodes to the fleet, books those that are acknowledged, and tries the others again. No order waits for
another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from actors.fleet import Done, Fleet, RunnerStatus, Work
from distwm.collect.book import Book, Played
from distwm.collect.job import Job
from distwm.collect.plan import CollectConfig
from distwm.collect.resume import Shelf
from distwm.collect.show import Display, Row
from replay.errors import DistwmError, TryAgain

_log = logging.getLogger(__name__)

POLL_S = 0.2  # of waiting for the fleet before looking round
LOOK_S = 1.0  # between two looks at the runners
SAVE_S = 2.0  # between two manifests
BRISK_S = 2.0  # of a work: less is brisk


class Collection:
    """The orders of one command. Those that wait are the fleet's members, in order."""

    def __init__(self, config: CollectConfig, jobs: Sequence[Job], book: Book, shelf: Shelf, display: Display) -> None:
        self.config, self.jobs, self.book = config, jobs, book
        self.waiting = [job for job in jobs if not job.finished]
        self._shelf, self._display = shelf, display
        self._begun_s, self._before_s = time.monotonic(), book.seconds
        self._looked_s = self._saved_s = self._begun_s
        self._status: Sequence[RunnerStatus] = ()

    @property
    def seconds(self) -> float:
        """Of collecting, by earlier commands too."""
        return self._before_s + time.monotonic() - self._begun_s

    @property
    def over(self) -> bool:
        """Whether nothing more is to be given out."""
        late = bool(self.config.minutes) and self.seconds >= 60 * self.config.minutes
        return late or all(job.finished for job in self.jobs)

    def run(self, fleet: Fleet, stopped: Callable[[], bool]) -> None:
        """Until every order is finished or given up, the minutes are over, or somebody stops it. What is under way then
        has `stop_s` to end, or, after the minutes, `fleet.call_timeout_s`."""
        try:
            while not stopped() and not self.over:
                self._give_out(fleet)
                self._turn(fleet)
            self._wind_up(fleet, stopped)
        finally:
            self._look(fleet)
            self.save()

    def rows(self) -> list[Row]:
        return [self._row(job) for job in self.jobs]

    def save(self) -> None:
        self._saved_s = time.monotonic()
        for job in self.jobs:
            self.book.tell(job.order, failures=job.failures, recovered=job.recovered)
        self.book.save(self.seconds, runners=[_runner(status) for status in self._status])

    def _wind_up(self, fleet: Fleet, stopped: Callable[[], bool]) -> None:
        """Waits for the episodes under way. A signal shortens the wait."""
        until_s = time.monotonic() + (self.config.stop_s if stopped() else self.config.fleet.call_timeout_s)
        if self._under_way:
            left_s = until_s - time.monotonic()
            self._display.say(f"{self._under_way} episodes are under way; they have {left_s:.0f} s to end.")
        while self._under_way and time.monotonic() < until_s:
            self._turn(fleet)
            if stopped():
                until_s = min(until_s, time.monotonic() + self.config.stop_s)

    @property
    def _under_way(self) -> int:
        return sum(len(job.out) for job in self.jobs if not job.finished)

    def _turn(self, fleet: Fleet) -> None:
        """One look at everything."""
        for done in fleet.poll(POLL_S):
            self._take(self.waiting[done.work.member], done)
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_S:
            self._look(fleet)
        if now_s - self._saved_s >= SAVE_S:
            self.save()
        if self._display.due:
            self._display.show(self.rows())

    def _give_out(self, fleet: Fleet) -> None:
        """So much that each runner has something to do, and where works are short, one of them something to go on with.
        Nothing long waits: it would have to be waited for in the end."""
        width = self.config.runner.envs_per_runner
        for member, job in enumerate(self.waiting):
            while not job.finished and len(job.out) < (job.order.runners + job.brisk) * width:
                if not (numbers := job.take(width)):
                    break
                fleet.submit(Work(policy=job.order.spec, numbers=numbers, member=member))

    def _take(self, job: Job, done: Done) -> None:
        numbers, stats, at_s = done.work.numbers, done.stats, self.seconds
        job.back(numbers)
        if stats is not None:
            job.begun_s = job.begun_s or time.monotonic() - done.seconds
            job.brisk = done.seconds < BRISK_S
            each = zip(numbers, stats.lengths, stats.returns, stats.successes, strict=True)
            self._note(
                job, [Played(number=n, steps=s + 1, total_reward=r, success=w, at_s=at_s) for n, s, r, w in each]
            )
        elif done.error is not None:
            self._failed(job, numbers, done.error)

    def _note(self, job: Job, episodes: Sequence[Played]) -> None:
        self.book.add(job.order, episodes)
        job.steps += sum(episode.steps for episode in episodes)
        job.ended_s = time.monotonic()

    def _failed(self, job: Job, numbers: Sequence[int], error: DistwmError) -> None:
        """What is whole in the replay is not played again: a runner may die between its last commit and its answer."""
        whole = self._shelf.whole(job.order, numbers, self.seconds)
        self._note(job, list(whole.values()))
        job.recovered += len(whole)
        lacking = [number for number in numbers if number not in whole]
        _log.warning("%s, episodes %s: %s", job.order.key, lacking, error)
        tries = job.retry(lacking)
        if not isinstance(error, TryAgain) or tries > self.config.fleet.max_retries:
            self._give_up(job, error)

    def _look(self, fleet: Fleet) -> None:
        """At the runners: what failed, and whether an order has any left."""
        self._looked_s, self._status = time.monotonic(), fleet.status()
        for member, job in enumerate(self.waiting):
            mine = [status for status in self._status if status.member == member]
            job.saw([status.failures for status in mine])  # type: ignore[misc]
            if mine and not job.finished and all(status.state == "quarantined" for status in mine):
                last = next((status.last_error for status in mine if status.last_error), "")
                reason = f"All runners of {job.order.task} ({len(mine)}) have been set aside: {last}"
                mend = "Read log.txt and mend the environment; the same command goes on."
                self._give_up(job, TryAgain(reason, mend))

    def _give_up(self, job: Job, error: DistwmError) -> None:
        job.give_up(error)
        self._display.say(f"{job.order.key} is given up: {error.message}")

    def _starting(self, job: Job) -> str:
        """What is to be said of an order of which nothing has been played yet."""
        mine = [status.state for status in self._status if self.waiting[status.member] is job]
        return "runners are starting" if mine and set(mine) == {"starting"} else ""

    def _row(self, job: Job) -> Row:
        return Row(
            title=job.order.key,
            run=job.order.run(self.book.name),
            asked=job.asked,
            played=list(job.played.values()),
            steps=job.steps,
            seconds=(job.ended_s or 0.0) - (job.begun_s or job.ended_s or 0.0),
            failures=job.failures,
            note="given up" if job.error else self._starting(job),
        )


def _runner(status: RunnerStatus) -> Mapping[str, object]:
    """What the manifest keeps of a runner."""
    names = ("index", "member", "task", "state", "steps", "episodes", "restarts", "last_error", "pid", "node")
    return {name: getattr(status, name) for name in names} | {"failures": dict(status.failures)}
