"""Watches runners at work: hears what they answer, and replaces those that died, stand still or take too long."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayTaskError

from actors.fleet.actor import Attempt, Progress
from actors.fleet.pool import Answer
from actors.fleet.roster import Roster
from actors.fleet.slot import Job, Slot, Tally
from actors.fleet.work import Reason, cause_of, reason_of
from actors.hosting.errors import HostedEnvError
from actors.inference import InferenceError

_log = logging.getLogger(__name__)

PASSING = HostedEnvError | InferenceError  # of ours: another try may succeed
HEALTH_S = 1.0  # between two questions how far a runner is, at most


class Overdue(TimeoutError):
    """A piece of work took too long, though its runner got on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a job: a value, our own error, or the failure of its runner."""

    job: Job
    runner: int
    value: Any = None
    error: Exception | None = None
    failed: bool = False  # the runner failed; another one may succeed


class Supervisor:
    """`turn` moves everything on; between two of them nothing changes. Knows no queue: work comes and goes."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.newest = -1  # version of weights that is known
        self._asked_s = self.turned_s = time.monotonic()

    def assign(self, slot: Slot, job: Job, arguments: Mapping[str, Any]) -> None:
        """Gives an idle runner a job."""
        job.begun_s, job.stored_s = time.monotonic(), 0.0
        self.roster.pool.work(slot.actor, arguments)
        slot.state, slot.job = "busy", job
        slot.pulse.begin(job.begun_s)

    def turn(self, wait_s: float) -> list[Outcome]:
        """Looks at every runner; waits so long for an answer if there is none yet."""
        begun_s = time.monotonic()
        for slot in self.roster.slots:
            slot.pulse.overlook(max(0.0, begun_s - self.turned_s - HEALTH_S))
        self._ask(begun_s)
        outcomes = [self._hear(answer) for answer in self.roster.pool.wait(wait_s)]
        self.turned_s = time.monotonic()
        outcomes += [self._check(slot, self.turned_s) for slot in [*self.roster.slots]]
        self.roster.start_due(self.turned_s)
        return [outcome for outcome in outcomes if outcome is not None]

    def know(self, version: int) -> None:
        """Weights of that version exist; runners that have older ones lag from now on."""
        self.newest = max(self.newest, version)
        for slot in self.roster.slots:
            behind = slot.pulse.newest is not None and 0 <= slot.pulse.newest.version < self.newest
            slot.stale_s = (slot.stale_s or time.monotonic()) if behind else 0.0

    def _ask(self, now: float) -> None:
        if now - self._asked_s >= min(HEALTH_S, self.roster.config.stall_s / 4):
            self._asked_s = now
            for slot in self.roster.slots:
                if slot.actor >= 0:
                    self.roster.pool.ask(slot.actor, "progress")

    def _hear(self, answer: Answer) -> Outcome | None:
        slot = next((slot for slot in self.roster.slots if slot.actor == answer.actor), None)
        if slot is None:  # it has been killed meanwhile
            return None
        if answer.kind == "close":
            self.roster.remove(slot)
        elif answer.error is not None:
            return self._fail(slot, reason_of(answer.error), answer.error)
        elif answer.kind == "work":
            return self._finish(slot, answer.value)
        else:
            self._note(slot, answer.value)
            slot.state = "idle" if slot.state == "starting" else slot.state
        return None

    def _finish(self, slot: Slot, attempt: Attempt) -> Outcome | None:
        self._note(slot, attempt.progress)
        if isinstance(attempt.error, PASSING):  # our other errors no runner mends
            return self._fail(slot, reason_of(attempt.error), attempt.error)
        job, slot.job = slot.job, None
        assert job is not None
        if attempt.error is None:
            slot.in_a_row = 0
            slot.tally += Tally(steps=attempt.steps, episodes=attempt.episodes)
        if slot.retired:
            self.roster.retire(slot)
        else:
            slot.state = "idle"
        return Outcome(job=job, runner=slot.index, error=attempt.error, value=attempt.result)

    def _note(self, slot: Slot, progress: Progress) -> None:
        """Failures that the runner got over by itself count as well."""
        before = slot.pulse.newest.failures if slot.pulse.newest else {}
        slot.tally.failures.update({reason: n - before.get(reason, 0) for reason, n in progress.failures.items()})
        slot.note(progress, time.monotonic())
        self.know(progress.version)

    def _check(self, slot: Slot, now: float) -> Outcome | None:
        """Ends what takes too long."""
        config = self.roster.config
        if slot.state == "retiring" and slot.job is None and now > slot.due_s:
            _log.warning("runner %d did not close within %g s", slot.index, config.restart_timeout_s)
            self.roster.remove(slot)
        if slot.job is None:
            return None
        if slot.job.taken_s(now) > config.call_timeout_s:
            waited = Overdue(f"no result within fleet.call_timeout_s={config.call_timeout_s:g}")
            return self._fail(slot, "overdue", waited)
        limit_s = slot.stall_limit_s(config.stall_s, now)
        if slot.pulse.still_s(now) > limit_s:
            return self._fail(slot, "stalled", TimeoutError(f"no step within {limit_s:g} s ({slot.doing})"))
        return None

    def _fail(self, slot: Slot, reason: Reason, error: Exception) -> Outcome | None:
        """Counts it, and lets the runner rest."""
        job, slot.job = slot.job, None
        slot.in_a_row += reason != "inference"  # which is no fault of the runner's
        if not reason.startswith("env_"):  # those the runner counts itself
            slot.tally.failures[reason] += 1
        slot.last_error, slot.failed_s = f"{reason}: {cause_of(error)}", time.monotonic()
        _log.warning("runner %d failed%s: %s", slot.index, f" in {job.work}" if job else "", slot.last_error)
        if slot.retired:
            self.roster.remove(slot)
        else:
            self.roster.set_aside(slot, alive=isinstance(error, RayTaskError | PASSING))
        return Outcome(job=job, runner=slot.index, error=cause_of(error), failed=True) if job else None
