"""Environment runners under supervision: work goes out in small pieces, and a failed runner's piece to another."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import ray

from actors.envs.registry import episode_spec
from actors.fleet.config import FleetConfig, Member
from actors.fleet.desk import Desk
from actors.fleet.roster import Roster
from actors.fleet.slot import Job, Tally
from actors.fleet.supervisor import HEALTH_S, Supervisor
from actors.fleet.work import REASONS, Done, RunnerStatus, Task, Work, total
from actors.inference import InferenceService
from actors.policies import PolicySpec
from actors.results import CollectStats, EpisodeResult
from actors.runner import EnvRunner, RunnerConfig
from learners.system import SystemConfig
from replay.config import ReplayConfig
from replay.errors import BadInput

POLL_S = 0.2  # how long one look for results lasts, if there is none
POLLED = 0  # the owner of work that was submitted


class Fleet:
    """A dead, stalled or overdue runner is replaced, and its piece is played again from the start: what it had
    committed of unfinished episodes stays in the replay as truncated data of its former life.

    Everything happens within the calls: between them runners play on, and nobody looks after them. Not for several
    threads at once.
    """

    def __init__(
        self,
        config: FleetConfig,
        members: Sequence[Member],
        *,
        runner: RunnerConfig,
        replay: ReplayConfig | None,
        system: SystemConfig | None,
        seed: int,
        extra_cpus: float | None = None,
    ) -> None:
        """Starts the runners and does not wait for them. Ray must be initialised; where this process lives in a
        placement group, that has room for these runners, and those of a later `resize` ask for `extra_cpus` outside it
        (None: as much as the others). Raises BadInput without members."""
        if not members:
            raise BadInput("A fleet without members has nothing to play.", "Give it at least one environment.")
        self.config, self._size = config, runner.envs_per_runner

        self.inference: InferenceService | None = None
        if config.inference.actors and system is not None:  # one system for all: it fits every member's steps
            spec = episode_spec(members[0].env, members[0].source.plan_steps)
            self.inference = InferenceService(config.inference, system, spec)

        def factory(member: Member, index: int) -> Callable[[], EnvRunner]:
            inference = self.inference.inference if self.inference else None
            build = partial(EnvRunner, runner=runner, replay=replay, system=system, seed=seed, inference=inference)
            own = {"env": member.env, "run": member.run, "behaviour": member.behaviour, "source": member.source}
            return partial(build, index, **own)

        self._roster = Roster(config, members, factory, extra_cpus)
        self._crew = Supervisor(self._roster)
        self._desk = Desk(self._crew)
        self._owners = itertools.count(POLLED + 1)

    @property
    def members(self) -> tuple[Member, ...]:
        return self._roster.members

    @property
    def failures(self) -> int:
        """Of all runners and reasons so far."""
        return sum(self._total().failures.values())

    def collect(
        self, policy: PolicySpec, episodes: Sequence[int], weights: ray.ObjectRef | None, member: int = 0
    ) -> CollectStats:
        """Plays the episodes of these numbers into the replay. Raises what EnvRunner.collect does, and TryAgain when a
        piece of work fails too often or no runner comes back."""
        start = time.perf_counter()
        done = self._run(self._pieces("collect", policy, episodes, weights, member))
        parts = [one.stats for one in done if one.stats]
        return total(parts, time.perf_counter() - start, retries=sum(one.retries for one in done))

    def evaluate(
        self,
        policy: PolicySpec,
        seeds: Sequence[int],
        weights: ray.ObjectRef | None,
        keep_frames: int = 0,
        member: int = 0,
    ) -> list[EpisodeResult]:
        """One episode for each seed, in order, with frames of the first `keep_frames`. Raises as `collect` does."""
        pieces = self._pieces("evaluate", policy, seeds, weights, member, keep_frames)
        return list(itertools.chain.from_iterable(one.results for one in self._run(pieces)))

    def submit(self, work: Work) -> None:
        """Puts a work in the member's queue; `poll` says what came of it. Raises BadInput if it cannot be right."""
        self._check_member(work.member)
        if not work.numbers:
            raise BadInput(f"A {work.task} of no episodes was submitted.", "Name at least one.")
        self._desk.put(Job(work=work, owner=POLLED))

    def poll(self, timeout_s: float) -> list[Done]:
        """Works that are done, in the order in which they ended: as soon as there is one, at the latest after
        `timeout_s`. An error comes with the work that it ended, and the others go on: our own as it was raised,
        TryAgain if the work failed too often or its member has no runner that works."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._turn(min(POLL_S, max(0.0, deadline - time.monotonic())))
            found = self._desk.take(POLLED)
            if found or time.monotonic() >= deadline:
                return [done for _, done in found]

    def resize(self, runners: int, member: int = 0) -> None:
        """Grows or shrinks a member to so many runners. New ones start when Ray has room for them; of those that go, a
        busy one ends its piece first. Raises BadInput for less than one runner or an unknown member."""
        self._check_member(member)
        if runners < 1:
            raise BadInput(f"A member cannot have {runners} runners.", "Ask for 1 or more.")
        self._roster.resize(runners, member)

    def size(self, member: int = 0) -> int:
        """How many runners a member has, whatever state they are in."""
        return len(self._roster.of(member))

    def status(self) -> list[RunnerStatus]:
        """How each runner is, by index. Looks at them first if nobody has for a second."""
        if time.monotonic() - self._crew.turned_s > HEALTH_S:
            self._turn(0.0)  # asks
            self._turn(POLL_S)
        return [slot.status(self._crew.newest) for slot in sorted(self._roster.slots, key=lambda slot: slot.index)]

    def figures(self) -> dict[str, float]:
        """Totals for the metrics: runners now, what all have done since the start, failures by reason."""
        status, tally = self.status(), self._total()
        lags = [one.lag for one in status if one.version >= 0] or [0]
        return {
            "runners": len(status),
            "up": sum(one.state in ("idle", "busy") for one in status),
            "quarantined": sum(one.state == "quarantined" for one in status),
            "steps": tally.steps,
            "episodes": tally.episodes,
            "steps_per_s": sum(one.steps_per_s for one in status),
            "lag_mean": sum(lags) / len(lags),
            "lag_max": max(lags),
            "lag_max_s": max((one.lag_s for one in status), default=0.0),
            "restarts": tally.restarts,
            **{f"failures_{reason}": tally.failures[reason] for reason in REASONS},
            **(self.inference.figures() if self.inference else {}),
        }

    def close(self) -> None:
        """Ends the runners, and the inference actors."""
        self._roster.close()
        if self.inference:
            self.inference.close()

    def _pieces(
        self,
        task: Task,
        policy: PolicySpec,
        numbers: Sequence[int],
        weights: ray.ObjectRef | None,
        member: int,
        keep_frames: int = 0,
    ) -> list[Work]:
        """At most one episode an environment, and as many pieces for each runner, so that all are busy to the end. The
        pieces of a collection explore as if one were played after the other."""
        self._check_member(member)
        runners = self.size(member)
        rounds = -(-len(numbers) // (self._size * runners))
        count = min(len(numbers), rounds * runners)
        parts = [part.tolist() for part in np.array_split(np.asarray(numbers), count)] if count else []
        before = itertools.accumulate((len(part) for part in parts), initial=0)
        explores = task == "collect"
        return [
            Work(
                task=task,
                policy=replace(policy, explored=policy.explored + begun) if explores else policy,
                numbers=tuple(part),
                weights=weights,
                member=member,
                keep_frames=max(0, keep_frames - begun),
            )
            for part, begun in zip(parts, before, strict=False)
        ]

    def _run(self, works: Sequence[Work]) -> list[Done]:
        """What came of the works, in order. Raises the first error; what is left of them is not begun."""
        owner = next(self._owners)
        for place, work in enumerate(works):
            self._desk.put(Job(work=work, owner=owner, place=place))
        results: dict[int, Done] = {}
        try:
            while len(results) < len(works):
                self._turn(POLL_S)
                for job, done in self._desk.take(owner):
                    if done.error is not None:
                        raise done.error
                    results[job.place] = done
        finally:
            self._desk.abandon(owner)
        return [results[place] for place in range(len(works))]

    def _turn(self, wait_s: float) -> None:
        self._desk.turn(wait_s)
        if self.inference:
            self.inference.look()

    def _check_member(self, member: int) -> None:
        if not 0 <= member < len(self.members):
            raise BadInput(f"This fleet has no member {member}.", f"Name one from 0 to {len(self.members) - 1}.")

    def _total(self) -> Tally:
        total = Tally()
        for tally in (self._roster.retired, *(slot.tally for slot in self._roster.slots)):
            total += tally
        return total
