"""The queue of each member: gives work to idle runners, again where one failed, and up where none can do it."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from actors.fleet.slot import FOREVER, Job, Slot
from actors.fleet.supervisor import HEALTH_S, Outcome, Overdue, Supervisor
from actors.fleet.work import Done
from replay.errors import DistwmError, TryAgain

NOBODY = -1  # owner of work that no one waits for any more
LOGS = "See the runner's log under /tmp/ray/session_latest/logs; then run the same command again."


class Desk:
    """Jobs of one owner come back to that owner alone."""

    def __init__(self, crew: Supervisor) -> None:
        self._crew, self._roster, self._config = crew, crew.roster, crew.roster.config
        self._queues: list[deque[Job]] = [deque() for _ in crew.roster.members]
        self._up_s = [time.monotonic()] * len(crew.roster.members)  # when a runner was last seen to be up
        self._finished: list[tuple[Job, Done]] = []

    def put(self, job: Job) -> None:
        queue = self._queues[job.work.member]
        if not queue:
            self._up_s[job.work.member] = time.monotonic()  # nobody looked before
        queue.append(job)
        self._crew.know(job.work.version)

    def take(self, owner: int) -> list[tuple[Job, Done]]:
        """What is finished of the owner's jobs."""
        mine = [one for one in self._finished if one[0].owner == owner]
        self._finished = [one for one in self._finished if one[0].owner != owner]
        return mine

    def abandon(self, owner: int) -> None:
        """Nobody waits for the owner's jobs any more; those that run go on to their end."""
        self._queues = [deque(job for job in queue if job.owner != owner) for queue in self._queues]
        self.take(owner)
        for slot in self._roster.slots:
            if slot.job is not None and slot.job.owner == owner:
                slot.job.owner = NOBODY

    def turn(self, wait_s: float) -> None:
        """Moves everything on; waits so long for news if there is none."""
        self._overlook(time.monotonic())
        self._give_out()
        for outcome in self._crew.turn(wait_s):
            self._account(outcome)
        for member in range(len(self._queues)):
            self._give_up(member)
        self._give_out()

    def _overlook(self, now: float) -> None:
        """Nobody looked since the last turn: in that time no runner could be started."""
        missed_s = max(0.0, now - self._crew.turned_s - HEALTH_S)
        self._up_s = [min(now, up_s + missed_s) for up_s in self._up_s]

    def _give_out(self) -> None:
        """A job to each idle runner; first to those that failed least."""
        for member, queue in enumerate(self._queues):
            idle = [slot for slot in self._roster.of(member) if slot.state == "idle"]
            for slot in sorted(idle, key=lambda slot: slot.in_a_row):
                if not queue:
                    break
                job = next((job for job in queue if job.last_runner != slot.index), queue[0])
                queue.remove(job)
                self._crew.assign(slot, job, _arguments(job))

    def _account(self, outcome: Outcome) -> None:
        job, error = outcome.job, outcome.error
        if error is None:
            seconds = time.monotonic() - job.begun_s
            self._end(job, outcome.runner, seconds=seconds, **_result(outcome.value))
        elif not outcome.failed:
            assert isinstance(error, DistwmError)
            self._end(job, outcome.runner, error=error)
        elif job.owner != NOBODY:
            self._again(job, outcome.runner, error)

    def _again(self, job: Job, runner: int, error: Exception) -> None:
        job.failures, job.last_runner = job.failures + 1, runner
        if job.failures <= self._config.max_retries:
            self._queues[job.work.member].appendleft(job)
            return
        words = f"The {job.work} failed {job.failures} times, the last time on runner {runner}: {error}"
        slow = isinstance(error, Overdue)
        ended = TryAgain(words, "Give fleet.call_timeout_s more, or pieces fewer episodes." if slow else LOGS)
        ended.__cause__ = error
        self._end(job, runner, error=ended)

    def _give_up(self, member: int) -> None:
        """Ends what waits for a member none of whose runners works."""
        queue, slots, now = self._queues[member], self._roster.of(member), time.monotonic()
        if any(slot.up for slot in slots):
            self._up_s[member] = now
        if not queue:
            return
        reason = self._resting(slots, now)
        if reason is None and now - self._up_s[member] > self._config.restart_timeout_s:
            reason = self._absent(slots)
        while reason is not None and queue:
            self._end(queue.popleft(), -1, error=reason)

    def _resting(self, slots: list[Slot], now: float) -> TryAgain | None:
        if any(slot.state != "quarantined" for slot in slots):
            return None
        newest = max(slots, key=lambda slot: slot.failed_s)
        soonest = min(slot.due_s for slot in slots)
        again = "" if soonest == FOREVER else f" One is tried again in {soonest - now:.0f} s."
        return TryAgain(
            f"Each of {len(slots)} runners of {newest.member.env.task} failed {self._config.quarantine_after} times in "
            f"a row and rests; runner {newest.index} was the last: {newest.last_error}.{again}",
            LOGS,
        )

    def _absent(self, slots: list[Slot]) -> TryAgain:
        last = next((f" The last one failed: {slot.last_error}." for slot in slots if slot.last_error), "")
        return TryAgain(
            f"None of {len(slots)} runners is up after {self._config.restart_timeout_s:g} s.{last}",
            f"Check that Ray has {self._config.cpus_per_runner:g} free CPUs for each; then run the command again.",
        )

    def _end(self, job: Job, runner: int, **found: Any) -> None:
        if job.owner != NOBODY:
            self._finished.append((job, Done(work=job.work, runner=runner, retries=job.failures, **found)))


def _arguments(job: Job) -> dict[str, Any]:
    """Of RunnerActor.work."""
    work = job.work
    numbers = list(work.numbers)
    own = {"seeds": numbers, "keep_frames": work.keep_frames} if work.task == "evaluate" else {"episodes": numbers}
    return {"task": work.task, "weights": work.weights, "lent": [work.weights], "policy": work.policy, **own}


def _result(value: Any) -> dict[str, Any]:
    return {"results": value} if isinstance(value, tuple) else {"stats": value}
