"""A runner's place in the fleet: which process is in it now, what that does, and how it went so far."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from actors.fleet.actor import Progress
from actors.fleet.config import Member
from actors.fleet.pulse import Pulse
from actors.fleet.work import REASONS, Reason, RunnerStatus, State, Work

FOREVER = float("inf")
ANSWER_MARGIN_S = 10.0  # beyond what an action source is allowed, so that its own error comes first


@dataclass(slots=True)
class Job:
    """A work on its way through the fleet."""

    work: Work
    owner: int  # which call waits for it; 0: `poll`
    place: int = 0  # among the owner's
    failures: int = 0
    last_runner: int = -1  # index of who failed it last
    begun_s: float = 0.0
    stored_s: float = 0.0  # of the time since then: waiting for the replay

    def taken_s(self, now: float) -> float:
        """The runner's own time for it."""
        return now - self.begun_s - self.stored_s


@dataclass(slots=True)
class Tally:
    """What a runner has done in all its lives."""

    steps: int = 0
    episodes: int = 0
    restarts: int = 0
    failures: Counter[Reason] = field(default_factory=Counter)

    def __iadd__(self, other: Tally) -> Tally:
        self.steps, self.episodes = self.steps + other.steps, self.episodes + other.episodes
        self.restarts += other.restarts
        self.failures.update(other.failures)
        return self


@dataclass(slots=True)
class Slot:
    """One of a member's runners. Only the supervisor changes it."""

    index: int
    place: int  # of the member
    member: Member
    reserved: bool  # whether its CPUs are set aside in the run's placement group
    state: State = "waiting"
    due_s: float = 0.0  # when it is started (waiting) or tried (quarantined) again, or must be gone (retiring)
    actor: int = -1  # number of its process in the pool; -1: none
    lives: int = 0  # processes so far
    job: Job | None = None
    retired: bool = False  # no more work
    in_a_row: int = 0  # failures since the last success
    last_error: str = ""
    failed_s: float = 0.0  # when that was
    tally: Tally = field(default_factory=Tally)
    pulse: Pulse = field(default_factory=Pulse)
    stale_s: float = 0.0  # since when a newer version than its own is known; 0: it has the newest

    @property
    def up(self) -> bool:
        return self.state in ("idle", "busy")

    def note(self, progress: Progress, now: float) -> None:
        """Takes its answer. Since the last one, one that waits for the replay had no time of its own."""
        if self.job is not None and progress.storing:
            self.job.stored_s += now - max(self.job.begun_s, self.pulse.noted_s)
        self.pulse.note(progress, now)

    def stall_limit_s(self, configured: float, now: float) -> float:
        """How long its counter may stand still at work: a reset and the first answer of an action source elsewhere may
        take as long as they are allowed to; before the first step environments are made, and after one has failed
        another, for which the rest may have to wait."""
        host = self.member.env.host
        limit = max(configured, host.reset_s, self._answer_s)
        making = not self.pulse.stepped or now - self.pulse.failed_s <= limit + host.start_s
        return limit + host.start_s if making else limit

    @property
    def _answer_s(self) -> float:
        """Until a source elsewhere must have answered, connecting again included; 0 without one."""
        source = self.member.source
        longest = max(source.first_timeout_s, source.timeout_s)
        return source.connect_timeout_s + longest + ANSWER_MARGIN_S if source.remote else 0.0

    def status(self, newest: int) -> RunnerStatus:
        """`newest`: the newest version of weights that the fleet knows."""
        now, progress = time.monotonic(), self.pulse.newest
        version = progress.version if progress else -1
        return RunnerStatus(
            index=self.index,
            member=self.place,
            task=self.member.env.task,
            state=self.state,
            doing=self.doing,
            steps=self.tally.steps,
            episodes=self.tally.episodes,
            steps_per_s=self.pulse.steps_per_s(now),
            version=version,
            lag=max(0, newest - version) if version >= 0 else 0,
            lag_s=now - self.stale_s if self.stale_s else 0.0,
            restarts=self.tally.restarts,
            failures={reason: self.tally.failures[reason] for reason in REASONS if self.tally.failures[reason]},
            last_error=self.last_error,
            again_s=self._again_s(now),
            pid=progress.pid if progress else 0,
            node=progress.node if progress else "",
        )

    def _again_s(self, now: float) -> float:
        if self.state not in ("waiting", "quarantined"):
            return 0.0
        return -1.0 if self.due_s == FOREVER else max(0.0, self.due_s - now)

    @property
    def doing(self) -> str:
        """In words, for a person."""
        progress = self.pulse.newest
        if self.job is not None:
            return f"{self.job.work}, storing" if progress and progress.storing else str(self.job.work)
        return "waits for Ray to start it" if self.state == "starting" else ""
