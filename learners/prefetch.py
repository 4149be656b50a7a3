"""Batches made ahead of time by one thread, in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from replay.errors import TryAgain


class Prefetcher:
    """`make(step)` for step = first, first + 1, ... < end, up to `depth` ahead of who asks.

    One thread, so `make` never runs twice at once; what it returns depends on the step alone, never on timing.
    """

    def __init__(self, make: Callable[[int], Any], first: int, end: int, depth: int, timeout_s: float) -> None:
        self._make, self._step, self._end, self._depth, self._timeout_s = make, first, end, depth, timeout_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._waiting: deque[Future[Any]] = deque()

    def next(self) -> tuple[Any, float]:
        """The next batch, and how long it was waited for, in seconds.

        Raises what `make` raised, and TryAgain if there is no batch within `timeout_s`.
        """
        self._ask(1)  # all that happens with depth 0
        future, begun_s = self._waiting.popleft(), time.monotonic()
        try:
            batch = future.result(self._timeout_s)
        except TimeoutError as error:
            if future.done():
                raise  # of `make` itself
            raise TryAgain(
                f"No training batch came within {self._timeout_s:g} s.",
                "See whether the replay answers, and run again.",
            ) from error
        waited_s = time.monotonic() - begun_s
        self._ask(self._depth)
        return batch, waited_s

    def rest(self) -> None:
        """Waits until the thread has nothing to do, so that the caller may use what it uses. Raises TryAgain."""
        if wait(self._waiting, self._timeout_s).not_done:
            raise TryAgain(
                f"A training batch takes longer than {self._timeout_s:g} s.",
                "See whether the replay answers, and run again.",
            )

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _ask(self, count: int) -> None:
        while len(self._waiting) < count and self._step < self._end:
            self._waiting.append(self._thread.submit(self._make, self._step))
            self._step += 1
