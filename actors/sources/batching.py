"""Requests of many connections, answered in batches by a source that runs in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from actors.sources.check import check_chunk
from actors.sources.source import ActionSource, Request

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    max_batch: int = 16
    max_wait_ms: float = 5.0  # for others to come along, if others are connected


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    actions: np.ndarray  # (T, A) float32
    source_s: float  # of thinking, as the source says
    infer_s: float  # of its batch
    batch: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: Request
    answer: asyncio.Future[Answer]


class Batcher:
    """Asked from one event loop, which goes on while the source thinks: so do pings and health checks. Requests gather
    meanwhile, and the next batch takes them all."""

    def __init__(self, source: ActionSource, config: BatchConfig, connected: Callable[[], int]) -> None:
        """`connected` says how many could ask: when all of them have, there is nobody to wait for."""
        self._source, self._config, self._connected = source, config, connected
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._unanswered: set[asyncio.Future[Answer]] = set()
        # A source that hangs must not keep the process: its thread is no reason to.
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        """From the loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self, error: Exception) -> None:
        """Who still waits hears `error`. The thread ends when the source lets it."""
        self._queue.put(None)
        for answer in self._unanswered:
            if not answer.done():
                answer.set_exception(error)

    async def ask(self, request: Request) -> Answer:
        """Raises what the source does."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._unanswered.add(answer)
        self._queue.put(_Waiting(request, answer))
        try:
            return await answer
        finally:
            self._unanswered.discard(answer)

    def _run(self) -> None:
        while (batch := self._gathered()) is not None:
            if batch := [one for one in batch if not one.answer.done()]:
                self._answer(batch)

    def _gathered(self) -> list[_Waiting] | None:
        """None when it is to stop."""
        batch: list[_Waiting] = []
        deadline: float | None = None
        while len(batch) < self._config.max_batch:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self._queue.empty() and 0 < len(batch) >= self._connected():
                break
            try:
                found = self._queue.get(timeout=left_s)
            except queue.Empty:
                break
            if found is None:
                return None
            batch.append(found)
            deadline = deadline or time.monotonic() + self._config.max_wait_ms / 1e3
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        """One that makes a batch fail fails alone."""
        try:
            found: list[Answer | Exception] = list(self._think([one.request for one in batch]))
        except Exception as error:  # noqa: BLE001 (whatever a source raises is told to those who asked)
            if len(batch) > 1:
                logger.warning("a batch of %d failed (%s): each is tried alone", len(batch), error)
                for one in batch:
                    self._answer([one])
                return
            found = [error]
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_tell, batch, found)

    def _think(self, requests: Sequence[Request]) -> list[Answer]:
        begun = time.perf_counter()
        chunk = self._source.act(requests)
        infer_s = time.perf_counter() - begun
        if len(chunk.actions) != len(requests):
            raise ValueError(f"the source gave {len(chunk.actions)} chunks for {len(requests)} requests")
        return [
            Answer(
                actions=check_chunk(actions, self._source.spec, "The source"),
                source_s=float(source_s),
                infer_s=infer_s,
                batch=len(requests),
            )
            for actions, source_s in zip(chunk.actions, chunk.source_s, strict=True)
        ]


def _tell(batch: Sequence[_Waiting], found: Sequence[Answer | Exception]) -> None:
    for one, answer in zip(batch, found, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, Exception):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)
