"""The agent of a runner whose decisions are made by an inference actor."""

from __future__ import annotations

import itertools
import time
import uuid
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from actors.inference.messages import InferenceError, Key, Part, Reply, Request
from actors.policies import PolicySpec
from learners.agent import Mode, Observation

AGAIN_S = 0.2  # before an actor that is not there is asked again
THREADS = 64  # decisions that one runner can have under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """Weights in the object store, for an inference actor that does not have them."""

    version: int
    ref: ray.ObjectRef  # of learners.weights.Weights


class Stub:
    """Rows that were started together; what is remembered of them is at the actor."""

    def __init__(self, key: Key, size: int, seed: int) -> None:
        self.key, self.size, self.seed = key, size, seed
        self.fresh = True

    @property
    def part(self) -> Part:
        return Part(self.key, self.size, self.seed, self.fresh)


Carry = tuple[Stub, ...]


class RemoteAgent:
    """See learners.agent.Agent. Several threads may use it."""

    def __init__(self, handle: Any, client: str, policy: PolicySpec, weights: Lent, deadline_s: float) -> None:
        self._handle, self._client, self._policy = handle, client, policy
        self._weights, self._deadline_s = weights, deadline_s
        self._life = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._ended: deque[Key] = deque()  # not told yet
        self._closed = False
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="decide")

    def start(self, batch_size: int, seed: int) -> Carry:
        stub = Stub(Key(self._client, self._life, next(self._numbers)), batch_size, seed)
        weakref.finalize(stub, self._ended.append, stub.key).atexit = False
        return (stub,)

    def join(self, carries: Sequence[Carry]) -> Carry:
        return tuple(itertools.chain.from_iterable(carries))

    def split(self, carry: Carry, sizes: Sequence[int]) -> list[Carry]:
        stubs, found = list(carry), []
        for size in sizes:
            mine: list[Stub] = []
            while stubs and sum(stub.size for stub in mine) < size:
                mine.append(stubs.pop(0))
            found.append(tuple(mine))
        if stubs or [sum(stub.size for stub in mine) for mine in found] != list(sizes):
            raise ValueError(f"batches of {[stub.size for stub in carry]} rows do not split into {list(sizes)}")
        return found

    def act(self, observation: Observation, carry: Carry, mode: Mode = "sample") -> tuple[np.ndarray, Carry]:
        """Raises InferenceError if the actor has died, forgotten the rows or not answered before the deadline. For rows
        that begin it waits until the deadline for an actor that is not there."""
        deadline_s = time.monotonic() + self._deadline_s
        request = self._request(observation, carry, mode)
        while True:
            if self._closed:  # the actor would take it for the runner's newest agent, and forget that one's episodes
                raise self._error("is not asked again: nobody waits for its answer", "late")
            try:
                reply = self._get(self._handle.act.remote(request), deadline_s)
            except ray.exceptions.RayActorError as error:
                if not all(stub.fresh for stub in carry):
                    raise self._error("died with what it remembered of the episodes", "died") from error
                self._pause(deadline_s, error)
                continue
            if reply.actions is not None:
                break
            self._supply(reply, deadline_s)
        for stub in carry:
            stub.fresh = False
        return reply.actions, carry

    def begin_act(
        self, observation: Observation, carry: Carry, mode: Mode = "sample"
    ) -> Future[tuple[np.ndarray, Carry]]:
        """`act` in another thread."""
        return self._threads.submit(self.act, observation, carry, mode)

    def close(self) -> None:
        """Tells the actor that nothing need be remembered any more, and does not wait for it. Threads that wait for an
        actor ask no more."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._handle.end.remote(self._client, self._life)

    def _request(self, observation: Observation, carry: Carry, mode: Mode) -> Request:
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        policy = PolicySpec(name=self._policy.name, mode=mode, explored=self._policy.explored)
        return Request(
            policy=policy,
            version=self._weights.version,
            parts=tuple(stub.part for stub in carry),
            observation=observation,
            ended=tuple(ended),
        )

    def _supply(self, reply: Reply, deadline_s: float) -> None:
        """The weights that the actor lacks. What it has forgotten is lost."""
        if reply.lacks == "past":
            raise self._error("has forgotten the episodes: it was started again, or they rested too long", "forgotten")
        try:
            self._get(self._handle.set_weights.remote(self._weights.ref), deadline_s)
        except ray.exceptions.RayActorError as error:
            self._pause(deadline_s, error)

    def _get(self, ref: ray.ObjectRef, deadline_s: float) -> Any:
        try:
            return ray.get(ref, timeout=max(0.0, deadline_s - time.monotonic()))
        except ray.exceptions.GetTimeoutError as error:
            raise self._late() from error
        except ray.exceptions.RayTaskError as error:
            raise getattr(error, "cause", error) from error

    def _pause(self, deadline_s: float, error: ray.exceptions.RayActorError) -> None:
        if error.actor_init_failed:
            raise self._error(f"could not start: {error}", "died") from error
        if time.monotonic() + AGAIN_S > deadline_s:
            raise self._late() from error
        time.sleep(AGAIN_S)

    def _late(self) -> InferenceError:
        return self._error(f"has not answered within inference.deadline_s={self._deadline_s:g}", "late")

    def _error(self, what: str, kind: Any) -> InferenceError:
        return InferenceError(
            f"The inference actor of {self._client}, policy {self._policy.name!r}, weights {self._weights.version}, "
            f"{what}.",
            "Play the episodes again; if it goes on, see the actor's log under /tmp/ray/session_latest/logs.",
            kind,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """The inference actors, as runners know them."""

    handles: tuple[Any, ...]
    deadline_s: float  # of a decision

    def agent(self, runner: int, policy: PolicySpec, weights: Lent) -> RemoteAgent:
        """The agent for one call of that runner. What its actor remembers of an earlier one is dropped when this one
        first acts."""
        handle = self.handles[runner % len(self.handles)]
        return RemoteAgent(handle, f"runner{runner}", policy, weights, self.deadline_s)
