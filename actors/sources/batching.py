"""Requests of many connections, answered in batches by a source that runs in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from actors.sources.check import check_chunk
from actors.sources.source import ActionChunk, ActionSource, Request

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
    """Lives in one event loop. While the source thinks, requests gather, and the next batch takes them all."""

    def __init__(self, source: ActionSource, config: BatchConfig, connected: Callable[[], int]) -> None:
        """`connected` says how many could ask: when all of them have, there is nobody to wait for."""
        self._source, self._config, self._connected = source, config, connected
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._unanswered: set[asyncio.Future[Answer]] = set()
        self._thread = ThreadPoolExecutor(1, "source")  # so that pings and health checks go on meanwhile

    async def ask(self, request: Request) -> Answer:
        """Raises what the source does."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._unanswered.add(answer)
        self._queue.put_nowait(_Waiting(request, answer))
        try:
            return await answer
        finally:
            self._unanswered.discard(answer)

    def abandon(self, error: Exception) -> None:
        """Who still waits hears `error`."""
        for answer in self._unanswered:
            if not answer.done():
                answer.set_exception(error)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                batch = [one for one in await self._gather() if not one.answer.done()]
                if batch:
                    await self._answer(batch)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        deadline = time.monotonic() + self._config.max_wait_ms / 1e3
        while len(batch) < self._config.max_batch:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
                continue
            left_s = deadline - time.monotonic()
            if left_s <= 0 or len(batch) >= self._connected():
                break
            try:
                batch.append(await asyncio.wait_for(self._queue.get(), left_s))
            except TimeoutError:
                break
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        """One that makes a batch fail fails alone."""
        try:
            answers = await self._think([one.request for one in batch])
        except Exception as error:  # noqa: BLE001 (whatever a source raises is told to those who asked)
            if len(batch) > 1:
                logger.warning("a batch of %d failed (%s): each is tried alone", len(batch), error)
                for one in batch:
                    await self._answer([one])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)

    async def _think(self, requests: list[Request]) -> list[Answer]:
        begun = time.perf_counter()
        chunk: ActionChunk = await asyncio.get_running_loop().run_in_executor(self._thread, self._source.act, requests)
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
