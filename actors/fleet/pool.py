"""Actors and the calls that they have not answered yet. The only file that uses RLlib's FaultTolerantActorManager
(which imports slowly, hence inside): it is a developer's interface, and Ray is pinned for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import ray
from ray.exceptions import RayError, RayTaskError

from actors.fleet.actor import HEALTH, RunnerActor
from actors.runner import EnvRunner

GET_S = 30.0  # to bring over a result that is ready

Kind = Literal["work", "progress", "close"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an actor answered, or how it failed to."""

    actor: int
    kind: Kind
    value: Any = None
    error: Exception | None = None


class Pool:
    """Each actor has one piece of work at a time, and one question how far it is. Nothing here waits, but `wait`."""

    def __init__(self, cpus: float, extra_cpus: float) -> None:
        """What actors ask of Ray: those for whom it is reserved, and those who come in addition."""
        from ray.rllib.utils.actor_manager import FaultTolerantActorManager

        self._manager = FaultTolerantActorManager(max_remote_requests_in_flight_per_actor=1)
        self._extra_cpus = extra_cpus
        self._asked: dict[ray.ObjectRef, tuple[int, Kind]] = {}
        self._remote = cast(Any, ray.remote)(  # whose types know no concurrency_groups
            num_cpus=cpus,
            max_restarts=0,  # the fleet starts another one, when it thinks fit
            max_task_retries=0,  # the fleet retries, so that it can count and choose another runner
            concurrency_groups={HEALTH: 1},
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        )(RunnerActor)

    def start(self, factory: Callable[[], EnvRunner], reserved: bool) -> int:
        """The number of a new actor, which Ray starts as soon as it can. `reserved`: in the placement group that this
        process lives in, if any; others go wherever there is room."""
        extra = {"scheduling_strategy": "SPREAD", "num_cpus": self._extra_cpus}
        remote = self._remote if reserved else self._remote.options(**extra)
        self._manager.add_actors([remote.remote(factory)])
        return self._manager.actor_ids()[-1]

    def work(self, actor: int, arguments: Mapping[str, Any]) -> None:
        """Gives it a piece of work; it must have none."""
        sent = self._manager.foreach_actor_async("work", kwargs=[{**arguments}], remote_actor_ids=[actor])
        assert sent == 1

    def ask(self, actor: int, kind: Literal["progress", "close"]) -> None:
        """Asks how far it is, or to close; the same question waits for its answer first."""
        if (actor, kind) not in self._asked.values():
            self._asked[getattr(self._manager.actors()[actor], kind).remote()] = (actor, kind)

    def kill(self, actor: int) -> None:
        """Ends it now. What it was asked gets no answer."""
        ray.kill(self._manager.remove_actor(actor))
        self._asked = {ref: asked for ref, asked in self._asked.items() if asked[0] != actor}

    def wait(self, timeout_s: float) -> list[Answer]:
        """Every answer that is there; at least one, if one comes in time."""
        waiting = [*self._manager._in_flight_req_to_actor_id, *self._asked]
        if waiting:
            ray.wait(waiting, num_returns=1, timeout=timeout_s)  # the manager itself would wait for all
        else:
            time.sleep(timeout_s)
        found = self._manager.fetch_ready_async_reqs(timeout_seconds=0.0, return_obj_refs=True)
        answers = [_answer(one.get(), one.actor_id, "work") for one in found.result_or_errors]
        ready = ray.wait([*self._asked], num_returns=len(self._asked), timeout=0)[0] if self._asked else []
        return answers + [_answer(ref, *self._asked.pop(ref)) for ref in ready]

    def close(self) -> None:
        """Kills all."""
        self._manager.clear()
        self._asked.clear()


def _answer(ref: ray.ObjectRef, actor: int, kind: Kind) -> Answer:
    try:
        return Answer(actor=actor, kind=kind, value=ray.get(ref, timeout=GET_S))
    except RayTaskError as error:  # with the class of what the method raised, and that as `cause`
        return Answer(actor=actor, kind=kind, error=error.as_instanceof_cause())
    except RayError as error:
        return Answer(actor=actor, kind=kind, error=error)
