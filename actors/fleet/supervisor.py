"""Keeps runners alive: starts, watches, replaces, sets aside and retires them. Knows no queue: work comes and goes."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayTaskError

from actors.fleet.actor import Progress
from actors.fleet.config import FleetConfig, Member
from actors.fleet.pool import Answer, Pool
from actors.fleet.slot import FOREVER, Job, Slot, Tally
from actors.fleet.work import Reason, cause_of, reason_of
from actors.hosting.errors import HostedEnvError
from actors.runner import EnvRunner
from replay.errors import DistwmError

_log = logging.getLogger(__name__)

HEALTH_S = 1.0  # between two questions how far a runner is

Factory = Callable[[Member, int], Callable[[], EnvRunner]]  # of the runner with an index


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a job: a value, our own error, or the failure of its runner."""

    job: Job
    runner: int
    value: Any = None
    error: Exception | None = None
    failed: bool = False  # the runner failed; another one may succeed


class Supervisor:
    """`turn` moves everything on; between two of them nothing changes."""

    def __init__(self, config: FleetConfig, members: Sequence[Member], factory: Factory) -> None:
        self.config, self.members, self._factory = config, tuple(members), factory
        self.slots: list[Slot] = []
        self.retired = Tally()  # of runners that are gone
        self.newest = -1  # version of weights known here
        self._pool = Pool(config.cpus_per_runner)
        self._reserved = sum(member.runners for member in members)
        self._asked_s = self._turned_s = time.monotonic()
        for place, member in enumerate(members):
            self.resize(member.runners, place)
        self._start_due(time.monotonic())

    def of(self, place: int) -> list[Slot]:
        """The runners of a member that are meant to stay."""
        return [slot for slot in self.slots if slot.place == place and not slot.retired]

    def resize(self, runners: int, place: int) -> None:
        """More are started at the next turn; of too many, those that work least go first."""
        staying = self.of(place)
        for slot in [slot for slot in self.slots if slot.place == place and slot.retired and slot.job]:
            if len(staying) < runners:  # it is still at its last piece
                slot.retired, slot.state = False, "busy"
                staying.append(slot)
        for _ in range(runners - len(staying)):
            self._add(place)
        ranks = {"quarantined": 0, "waiting": 1, "starting": 2, "idle": 3, "busy": 4}
        for slot in sorted(staying, key=lambda s: (ranks[s.state], -s.index))[: max(0, len(staying) - runners)]:
            self._retire(slot)

    def assign(self, slot: Slot, job: Job, arguments: Mapping[str, Any]) -> None:
        """Gives an idle runner a job."""
        now = time.monotonic()
        self._pool.work(slot.actor, arguments)
        slot.state, slot.job, job.begun_s = "busy", job, now
        slot.pulse.begin(now)

    def turn(self, wait_s: float) -> list[Outcome]:
        """Looks at every runner; waits so long for an answer if there is none yet."""
        self._ask(time.monotonic())
        outcomes = [outcome for answer in self._pool.wait(wait_s) if (outcome := self._hear(answer))]
        now = time.monotonic()
        for slot in self.slots:
            slot.pulse.overlook(max(0.0, now - self._turned_s - wait_s - HEALTH_S))
        self._turned_s = now
        outcomes += [outcome for slot in [*self.slots] if (outcome := self._check(slot, now))]
        self._start_due(now)
        return outcomes

    def close(self) -> None:
        """Ends all runners at once. What they have on the disk waits there for the next writers of their streams."""
        self._pool.close()
        for slot in self.slots:
            self.retired += slot.tally
        self.slots.clear()

    def _add(self, place: int) -> None:
        """A runner with the lowest index that is free: it sends what an earlier one of that index may have left."""
        taken = {slot.index for slot in self.slots}
        index = next(number for number in range(len(taken) + 1) if number not in taken)
        reserved = sum(slot.reserved for slot in self.slots) < self._reserved
        self.slots.append(Slot(index=index, place=place, member=self.members[place], reserved=reserved))

    def _start_due(self, now: float) -> None:
        for slot in self.slots:
            if slot.state in ("waiting", "quarantined") and now >= slot.due_s:
                if slot.actor >= 0:
                    slot.state = "idle"
                else:
                    self._start(slot)

    def _start(self, slot: Slot) -> None:
        slot.tally.restarts += slot.lives > 0
        slot.lives += 1
        slot.actor = self._pool.start(self._factory(slot.member, slot.index), slot.reserved)
        slot.state = "starting"
        slot.pulse = type(slot.pulse)()
        self._pool.ask(slot.actor, "progress")

    def _ask(self, now: float) -> None:
        if now - self._asked_s >= HEALTH_S:
            self._asked_s = now
            for slot in self.slots:
                if slot.actor >= 0:
                    self._pool.ask(slot.actor, "progress")

    def _hear(self, answer: Answer) -> Outcome | None:
        slot = next((slot for slot in self.slots if slot.actor == answer.actor), None)
        if slot is None:
            return None
        if answer.kind == "work":
            return self._finish(slot, answer)
        if answer.kind == "close":
            self._remove(slot)
        elif answer.error is not None:
            return self._fail(slot, reason_of(answer.error), answer.error)
        else:
            self._note(slot, answer.value)
            slot.state = "idle" if slot.state == "starting" else slot.state
        return None

    def _finish(self, slot: Slot, answer: Answer) -> Outcome | None:
        error, cause = answer.error, answer.error and cause_of(answer.error)
        ours = isinstance(cause, DistwmError) and not isinstance(cause, HostedEnvError)  # which no other runner mends
        if error is not None and not ours:
            return self._fail(slot, reason_of(error), error)
        job, slot.job = slot.job, None
        assert job is not None
        if slot.retired:
            self._retire(slot)
        else:
            slot.state = "idle"
        return Outcome(job=job, runner=slot.index, error=cause, value=None if error else self._book(slot, answer.value))

    def _book(self, slot: Slot, answer: Any) -> Any:
        """Counts what a runner has done; returns it."""
        value, progress = answer
        self._note(slot, progress)
        steps, episodes = _count(value)
        slot.in_a_row = 0
        slot.tally += Tally(steps=steps, episodes=episodes)
        return value

    def _note(self, slot: Slot, progress: Progress) -> None:
        now = time.monotonic()
        slot.pulse.note(progress, now)
        self.know(progress.version)

    def know(self, version: int) -> None:
        """Weights of that version exist; runners that have older ones lag from now on."""
        self.newest = max(self.newest, version)
        for slot in self.slots:
            behind = slot.pulse.newest is not None and 0 <= slot.pulse.newest.version < self.newest
            slot.stale_s = (slot.stale_s or time.monotonic()) if behind else 0.0

    def _check(self, slot: Slot, now: float) -> Outcome | None:
        """Replaces a runner that takes too long."""
        if slot.state == "retiring" and slot.job is None and now > slot.due_s:
            _log.warning("runner %d did not close within %g s", slot.index, self.config.restart_timeout_s)
            self._remove(slot)
        if slot.job is None:
            return None
        if now - slot.job.begun_s > self.config.call_timeout_s:
            waited = TimeoutError(f"no result within call_timeout_s={self.config.call_timeout_s:g}")
            return self._fail(slot, "overdue", waited)
        limit = slot.stall_limit_s(self.config.stall_s)
        if slot.pulse.still_s(now) > limit:
            return self._fail(slot, "stalled", TimeoutError(f"no step within {limit:g} s{_at(slot)}"))
        return None

    def _fail(self, slot: Slot, reason: Reason, error: Exception) -> Outcome | None:
        """Counts it, and decides when the runner may work again."""
        job, slot.job = slot.job, None
        slot.in_a_row += 1
        slot.tally.failures[reason] += 1
        slot.last_error, slot.failed_s = f"{reason}: {cause_of(error)}", time.monotonic()
        _log.warning("runner %d failed%s: %s", slot.index, f" in {job.work}" if job else "", slot.last_error)
        if slot.retired:
            self._remove(slot)
        else:
            self._set_aside(slot, alive=isinstance(error, RayTaskError))
        return Outcome(job=job, runner=slot.index, error=cause_of(error), failed=True) if job else None

    def _set_aside(self, slot: Slot, alive: bool) -> None:
        """For a while; `alive`: its process may go on, at once after a first failure."""
        config, now = self.config, time.monotonic()
        slot.state = "quarantined" if slot.in_a_row >= config.quarantine_after else "waiting"
        if alive and slot.state == "waiting":
            again = slot.in_a_row - 1
            slot.due_s = now + (config.backoff(again, random.random()) if again else 0.0)
            return
        self._kill(slot)
        pause = config.quarantine_s if slot.state == "quarantined" else config.backoff(slot.in_a_row, random.random())
        spent = 0 <= config.max_restarts <= slot.tally.restarts
        slot.due_s = FOREVER if spent else now + pause
        if slot.state == "quarantined":
            _log.warning("runner %d failed %d times in a row; it rests %g s", slot.index, slot.in_a_row, pause)

    def _retire(self, slot: Slot) -> None:
        """It finishes its piece, closes and goes."""
        slot.retired = True
        if slot.actor < 0 or slot.state == "starting":
            self._remove(slot)
            return
        slot.state = "retiring"
        if slot.job is None:
            slot.due_s = time.monotonic() + self.config.restart_timeout_s
            self._pool.ask(slot.actor, "close")

    def _remove(self, slot: Slot) -> None:
        self._kill(slot)
        self.retired += slot.tally
        self.slots.remove(slot)

    def _kill(self, slot: Slot) -> None:
        if slot.actor >= 0:
            self._pool.kill(slot.actor)
            slot.actor = -1


def _count(value: Any) -> tuple[int, int]:
    """Steps and episodes of a result."""
    if isinstance(value, tuple):
        return sum(result.length for result in value), len(value)
    return value.steps, value.episodes


def _at(slot: Slot) -> str:
    doing = slot.pulse.newest.doing if slot.pulse.newest else ""
    return f", at {doing}" if doing else ""
