"""Environment runners as Ray actors: work is given out in small pieces, and a dead runner's piece goes to another.

The only file that uses RLlib's FaultTolerantActorManager (which imports slowly, hence inside).
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig
from actors.hosting.errors import HostedEnvError
from actors.policies import PolicySpec
from actors.runner import CollectStats, EnvRunner, EpisodeResult, RunnerConfig
from learners.system import SystemConfig
from replay.config import ReplayConfig
from replay.errors import DistwmError, TryAgain

_log = logging.getLogger(__name__)

POLL_S = 0.1  # how long one look for results lasts
PROBE_S = 1.0  # between two looks whether a dead runner is back


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """How many runners there are, what they ask of Ray, and how much trouble is borne."""

    runners: int = 2
    cpus_per_runner: float = 1.0
    call_timeout_s: float = 300.0  # for one piece of work
    restart_timeout_s: float = 120.0  # how long the fleet waits for runners to start, or when none is alive
    max_restarts: int = -1  # of each runner; -1: no limit
    max_retries: int = 3  # of each piece of work


class RunnerActor:
    """The process around an EnvRunner. `apply` and `ping` are what FaultTolerantActorManager calls."""

    def __init__(self, factory: Callable[[], EnvRunner]) -> None:
        self._runner = factory()

    def apply(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        return func(self, *args, **kwargs)

    def ping(self) -> str:
        return self._runner.ping()

    def work(self, task: str, policy: PolicySpec, piece: Sequence[int], weights: Any, **options: Any) -> Any:
        """`collect` or `evaluate` of the runner, with the newest weights."""
        if weights is not None:
            self._runner.set_weights(weights)
        return getattr(self._runner, task)(policy, piece, **options)


@dataclass(slots=True)
class Piece:
    """Episodes that one runner plays in one call."""

    place: int  # among the results
    numbers: list[int]
    arguments: dict[str, Any]
    what: str
    failures: int = 0
    deadline: float = 0.0


class Fleet:
    """Runners under supervision. A dead or stalled one is restarted, and its piece is played again from the start: what
    it had committed of unfinished episodes stays in the replay as truncated data of its former life."""

    def __init__(
        self,
        config: FleetConfig,
        *,
        env: EnvConfig,
        runner: RunnerConfig,
        replay: ReplayConfig | None,
        run: str,
        behaviour: BehaviourConfig,
        system: SystemConfig | None,
        seed: int,
    ) -> None:
        """Starts the runners and does not wait for them. Ray must be initialised."""
        from ray.rllib.utils.actor_manager import FaultTolerantActorManager

        self.config, self._size = config, runner.envs_per_runner
        self.failures = 0  # deaths, crashes and stalls so far
        remote = ray.remote(RunnerActor).options(
            num_cpus=config.cpus_per_runner,
            max_restarts=config.max_restarts,
            max_task_retries=0,  # the fleet retries, so that it can count and choose another runner
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        )
        factory = partial(
            EnvRunner, env=env, runner=runner, replay=replay, run=run, behaviour=behaviour, system=system, seed=seed
        )
        self._actors: list[Any] = [remote.remote(partial(factory, index)) for index in range(config.runners)]
        self._manager = FaultTolerantActorManager(self._actors, max_remote_requests_in_flight_per_actor=1)
        self._tags = (f"call{number}" for number in itertools.count())
        self._started = False
        self._alive_s = self._probed_s = time.monotonic()

    def collect(self, policy: PolicySpec, episodes: Sequence[int], weights: ray.ObjectRef | None) -> CollectStats:
        """Plays the episodes of these numbers into the replay. Raises what EnvRunner.collect does, and TryAgain when a
        piece of work fails too often or no runner comes back."""
        start, failures = time.perf_counter(), self.failures
        parts: list[CollectStats] = self._run(self._pieces("collect", policy, episodes, weights))
        return CollectStats(
            steps=sum(part.steps for part in parts),
            episodes=sum(part.episodes for part in parts),
            returns=tuple(itertools.chain.from_iterable(part.returns for part in parts)),
            seconds=time.perf_counter() - start,
            retries=self.failures - failures,
        )

    def evaluate(
        self, policy: PolicySpec, seeds: Sequence[int], weights: ray.ObjectRef | None, keep_frames: int = 0
    ) -> list[EpisodeResult]:
        """One episode for each seed, in order, with frames of the first `keep_frames`. Raises as `collect` does."""
        pieces = self._pieces("evaluate", policy, seeds, weights)
        for piece in pieces:
            piece.arguments["keep_frames"] = max(0, keep_frames)
            keep_frames -= len(piece.numbers)
        return list(itertools.chain.from_iterable(self._run(pieces)))

    def close(self) -> None:
        """Ends the runners."""
        self._manager.clear()

    def _pieces(
        self, task: str, policy: PolicySpec, numbers: Sequence[int], weights: ray.ObjectRef | None
    ) -> list[Piece]:
        """At most one episode an environment, and as many pieces for each runner, so that all are busy to the end."""
        rounds = -(-len(numbers) // (self._size * self.config.runners))
        count = min(len(numbers), rounds * self.config.runners)
        parts = [part.tolist() for part in np.array_split(np.asarray(numbers), count)] if count else []
        return [
            Piece(
                place=place,
                numbers=part,
                arguments={"task": task, "policy": policy, "piece": part, "weights": weights},
                what=f"{task} of episodes {part[0]} to {part[-1]} with {policy.name!r}",
            )
            for place, part in enumerate(parts)
        ]

    def _run(self, pieces: Sequence[Piece]) -> list[Any]:
        """The results of the pieces, in order."""
        todo = deque(pieces)
        running: dict[int, Piece] = {}  # by runner
        results: dict[int, Any] = {}
        tag = next(self._tags)
        self._start()
        while len(results) < len(pieces):
            self._give_out(tag, todo, running)
            for answer in self._manager.fetch_ready_async_reqs(tags=tag, timeout_seconds=POLL_S).result_or_errors:
                piece = running.pop(answer.actor_id)
                if answer.ok:
                    results[piece.place] = answer.get()
                else:
                    todo.appendleft(self._failed(piece, answer.actor_id, answer.get()))
            todo.extendleft(self._overdue(running))
            self._revive()
        return [results[place] for place in range(len(pieces))]

    def _start(self) -> None:
        """Waits for the runners before the first piece of work; one that does not answer counts as dead for now."""
        self._alive_s = time.monotonic()
        if self._started:
            return
        answers = self._manager.foreach_actor("ping", timeout_seconds=self.config.restart_timeout_s).result_or_errors
        for runner in set(self._manager.actor_ids()) - {answer.actor_id for answer in answers}:
            _log.warning("runner %d has not started within %g s", runner, self.config.restart_timeout_s)
            self._manager.set_actor_state(runner, healthy=False)
        self._started = True

    def _give_out(self, tag: str, todo: deque[Piece], running: dict[int, Piece]) -> None:
        """One piece to each runner that is well and idle."""
        for runner in self._manager.healthy_actor_ids():
            if not todo:
                return
            if runner in running:
                continue
            piece = todo.popleft()
            piece.deadline = time.monotonic() + self.config.call_timeout_s
            sent = self._manager.foreach_actor_async(
                "work", tag=tag, kwargs=[piece.arguments], remote_actor_ids=[runner], healthy_only=False
            )
            assert sent == 1
            running[runner] = piece

    def _failed(self, piece: Piece, runner: int, error: Exception) -> Piece:
        """The piece, to be tried again. Raises errors of ours as they are, and TryAgain after too many of others."""
        cause = getattr(error, "cause", error)  # Ray wraps what a method raised
        if isinstance(cause, DistwmError) and not isinstance(cause, HostedEnvError):  # another one can be made
            raise cause
        self.failures += 1
        piece.failures += 1
        _log.warning("runner %d failed in %s: %s", runner, piece.what, cause)
        if piece.failures > self.config.max_retries:
            raise TryAgain(
                f"The {piece.what} failed {piece.failures} times, the last time on runner {runner}: {cause}",
                "See the runner's log under /tmp/ray/session_latest/logs; then run the same command again.",
            ) from error
        return piece

    def _overdue(self, running: dict[int, Piece]) -> list[Piece]:
        """Pieces whose runner takes too long; it is killed, and Ray starts it again."""
        late = [runner for runner, piece in running.items() if time.monotonic() > piece.deadline]
        found = []
        for runner in late:
            piece = running.pop(runner)
            self._manager.set_actor_state(runner, healthy=False)
            ray.kill(self._actors[runner], no_restart=False)
            waited = TimeoutError(f"no result within call_timeout_s={self.config.call_timeout_s:g}")
            found.append(self._failed(piece, runner, waited))
        return found

    def _revive(self) -> None:
        """Looks whether dead runners are back. Raises TryAgain when none has been alive for restart_timeout_s."""
        now = time.monotonic()
        if self._manager.num_healthy_actors():
            self._alive_s = now
        if self._manager.num_healthy_actors() < self.config.runners and now - self._probed_s > PROBE_S:
            self._probed_s = now
            self._manager.probe_unhealthy_actors(timeout_seconds=POLL_S, mark_healthy=True)
        if now - self._alive_s > self.config.restart_timeout_s:
            raise TryAgain(
                f"None of {self.config.runners} runners is up after {self.config.restart_timeout_s:g} s.",
                f"Check that Ray has {self.config.cpus_per_runner:g} free CPUs for each; then run the command again.",
            )
