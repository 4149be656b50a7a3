"""Batches made ahead of time by one thread, in order."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from replay.errors import TryAgain

_MEND = "See whether the replay answers, and run the same command again: it resumes."


class Prefetcher:
    """`make(step)` for step = first, first + 1, ... < end, up to `depth` ahead of who asks.

    One thread, so `make` never runs twice at once; what it returns depends on the step alone, never on timing. A daemon
    thread, unlike an executor's: a `make` that hangs does not keep the process from ending.
    """

    def __init__(self, make: Callable[[int], Any], first: int, end: int, depth: int, timeout_s: float) -> None:
        self._make, self._step, self._end, self._depth, self._timeout_s = make, first, end, depth, timeout_s
        self._waiting: deque[Future[Any]] = deque()
        self._asked: queue.SimpleQueue[tuple[int, Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="prefetch", daemon=True).start()

    def next(self) -> tuple[Any, float]:
        """The next batch, and how long it was waited for, in seconds.

        Raises what `make` raised, and TryAgain if there is no batch within `timeout_s`.
        """
        self._ask(1)  # all that happens with depth 0
        future, begun_s = self._waiting[0], time.monotonic()
        self._await([future])
        waited_s = time.monotonic() - begun_s
        self._waiting.popleft()
        self._ask(self._depth)
        return future.result(), waited_s

    def rest(self) -> None:
        """Waits until the thread has nothing to do, so that the caller may use what it uses. Raises TryAgain."""
        self._await(self._waiting)

    def close(self) -> None:
        """Waits for the batch that is being made, if any. Raises TryAgain."""
        running = [future for future in self._waiting if not future.cancel()]
        self._asked.put(None)
        self._await(running)

    def _await(self, futures: deque[Future[Any]] | list[Future[Any]]) -> None:
        if wait(futures, self._timeout_s).not_done:
            raise TryAgain(f"No training batch came within {self._timeout_s:g} s.", _MEND)

    def _ask(self, count: int) -> None:
        while len(self._waiting) < count and self._step < self._end:
            future: Future[Any] = Future()
            self._waiting.append(future)
            self._asked.put((self._step, future))
            self._step += 1

    def _work(self) -> None:
        while asked := self._asked.get():
            step, future = asked
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._make(step))
                except BaseException as error:  # noqa: BLE001  (goes to whoever asks for the batch)
                    future.set_exception(error)
