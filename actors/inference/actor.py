"""The Ray actor that acts for many runners: gathers their requests, acts once for all of them, answers each."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import numpy as np
import ray
import torch

from actors.inference.config import InferenceConfig
from actors.inference.messages import Health, Key, Reply, Request
from actors.inference.minds import Mind, Minds
from learners.agent import Observation
from learners.system import SystemConfig
from learners.weights import Weights
from replay.schema import EpisodeSpec

HEALTH = "health"  # the concurrency group that answers while a batch is computed

Asked = tuple[Request, "asyncio.Future[Reply]"]


class InferenceActor:
    """Requests of one policy, mode and version of the weights are computed together."""

    def __init__(self, config: InferenceConfig, system: SystemConfig, spec: EpisodeSpec) -> None:
        torch.set_num_threads(max(1, int(config.cpus)))
        self._config = config
        self._minds = Minds(system, spec, torch.device("cuda" if config.gpus else "cpu"))
        self._lives: dict[str, str] = {}  # of each client's newest agent
        self._waiting: list[Asked] = []
        self._timer: asyncio.TimerHandle | None = None
        self._swept_s = time.monotonic()
        self._health = Health(pid=os.getpid(), versions=(), decisions=0, batches=0, remembered=0, busy_s=0.0)
        self._busy_since_s: float | None = None

    @ray.method(concurrency_group=HEALTH)
    async def health(self) -> Health:
        """Answers at once, whatever is being computed."""
        since_s = self._busy_since_s
        return replace(self._health, busy_s=0.0 if since_s is None else time.monotonic() - since_s)

    async def set_weights(self, weights: Weights) -> tuple[int, ...]:
        """Takes the weights unless it has them; returns the versions that it has. Raises BadInput if they do not
        fit."""
        self._minds.add(weights)
        self._note()
        return self._minds.versions

    async def act(self, request: Request) -> Reply:
        """Raises BadInput for a policy that the system does not have, and what the agent raises."""
        self._sweep(request)
        lacks = self._lacks(request)
        if lacks is not None:
            return lacks
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        self._schedule()
        return await answer

    async def end(self, client: str, life: str) -> None:
        """The client's agent is done."""
        if self._lives.get(client) == life:
            del self._lives[client]
            self._minds.drop_others(client, life="")
            self._note()

    def _lacks(self, request: Request) -> Reply | None:
        mind = self._minds.get(request.version)
        if mind is None:
            return Reply(lacks="weights" if all(part.fresh for part in request.parts) else "past")
        carries = mind.carries(request.policy)
        for part in request.parts:
            if part.fresh:
                carries.begin(part.key, part.size, part.seed)
            elif part.key not in carries:
                return Reply(lacks="past")
        return None

    def _schedule(self) -> None:
        """Acts now if nobody else can come or the batch is full; else when the first has waited long enough."""
        rows = sum(request.rows for request, _ in self._waiting)
        if rows >= min(self._config.batch, self._minds.rows):
            self._act()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._config.wait_s, self._act)

    def _act(self) -> None:
        """For one batch. Those that are left come next, after what has arrived meanwhile."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._turn_away()
        batch = self._choose()
        self._busy_since_s = time.monotonic()
        try:
            self._answer(batch)
        finally:
            self._busy_since_s = None
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(0, self._act)

    def _turn_away(self) -> None:
        """Those who waited while what is remembered of them was dropped, or while they asked again."""
        asked_again: set[Key] = set()
        staying: list[Asked] = []
        for request, answer in reversed(self._waiting):
            if self._knows(request) and asked_again.isdisjoint(request.keys):
                staying.insert(0, (request, answer))
            else:
                answer.set_result(Reply(lacks="past"))
            asked_again.update(request.keys)
        self._waiting = staying

    def _knows(self, request: Request) -> bool:
        mind = self._minds.get(request.version)
        return mind is not None and all(key in mind.carries(request.policy) for key in request.keys)

    def _choose(self) -> list[Asked]:
        """The oldest request and those that can be computed with it, as many as fit."""
        chosen: list[Asked] = []
        left: list[Asked] = []
        rows = 0
        for asked in self._waiting:
            request = asked[0]
            fits = not chosen or (_kind(request) == _kind(chosen[0][0]) and rows + request.rows <= self._config.batch)
            (chosen if fits else left).append(asked)
            rows += request.rows if fits else 0
        self._waiting = left
        return sorted(chosen, key=lambda asked: asked[0].keys)  # the same company in the same order: nothing is copied

    def _answer(self, batch: list[Asked]) -> None:
        requests = [request for request, _ in batch]
        if not requests:
            return
        mind = self._minds.get(requests[0].version)
        assert mind is not None
        try:
            actions = _decide(mind, requests)
        except Exception as error:  # noqa: BLE001 (raised where it was asked for)
            self._forget(requests)
            for _, answer in batch:
                answer.set_exception(error)
            return
        self._note(len(actions))
        ends = np.cumsum([request.rows for request in requests])
        for (_, answer), mine in zip(batch, np.split(actions, ends[:-1]), strict=True):
            answer.set_result(Reply(actions=mine))

    def _sweep(self, request: Request) -> None:
        """Forgets what has ended, what earlier agents of the client left, and what has not been used for long."""
        for key in request.ended:
            self._minds.drop(key)
        client, life, _ = request.parts[0].key
        if self._lives.get(client) != life:
            self._lives[client] = life
            self._minds.drop_others(client, life)
        now = time.monotonic()
        if now - self._swept_s > self._config.expire_s / 4:
            self._swept_s = now
            self._minds.drop_unused(now - self._config.expire_s)

    def _forget(self, requests: list[Request]) -> None:
        for request in requests:
            for key in request.keys:
                self._minds.drop(key)

    def _note(self, decisions: int = 0) -> None:
        self._health = replace(
            self._health,
            versions=self._minds.versions,
            decisions=self._health.decisions + decisions,
            batches=self._health.batches + (decisions > 0),
            remembered=self._minds.rows,
        )


def _kind(request: Request) -> tuple[object, ...]:
    return request.policy, request.version


def _decide(mind: Mind, requests: list[Request]) -> np.ndarray:
    """Actions of all rows of the requests, in order."""
    policy, segments = requests[0].policy, [request.keys for request in requests]
    carries = mind.carries(policy)
    actions, carry = carries.agent.act(_join([r.observation for r in requests]), carries.take(segments), policy.mode)
    carries.put(segments, carry)
    return actions


def _join(several: list[Observation]) -> Observation:
    if len(several) == 1:
        return several[0]
    return Observation(
        fields={name: np.concatenate([one.fields[name] for one in several]) for name in several[0].fields},
        previous_action=np.concatenate([one.previous_action for one in several]),
        is_first=np.concatenate([one.is_first for one in several]),
    )
