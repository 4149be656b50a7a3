"""Environments asked in halves, so that several work at once: begin, turn to others, finish when it is there."""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

import gymnasium

Reset = tuple[Any, dict[str, Any]]
Step = tuple[Any, Any, bool, bool, dict[str, Any]]
T = TypeVar("T")

LOOK_S = 0.25  # between two looks for answers that are overdue


class Wait(Protocol):
    """Something that is waited for. Whoever waits has a deadline: `late` says that it has passed."""

    def fileno(self) -> int:
        """Readable when it is there."""
        ...

    @property
    def late(self) -> bool: ...


class Halves(Wait, Protocol):
    """An environment that works elsewhere, such as HostedEnv: each question is begun, and finished before the next.
    Finishing blocks until the answer is there, or raises when the deadline has passed."""

    def begin_reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None: ...

    def finish_reset(self) -> Reset: ...

    def begin_step(self, action: Any) -> None: ...

    def finish_step(self) -> Step: ...


class AtOnce:
    """Halves of an environment in this process, which works while it is asked."""

    def __init__(self, env: gymnasium.Env) -> None:
        self._env = env
        self._answer: Any = None

    def begin_reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self._answer = self._env.reset(seed=seed, options=options)

    def finish_reset(self) -> Reset:
        return self._answer

    def begin_step(self, action: Any) -> None:
        self._answer = self._env.step(action)

    def finish_step(self) -> Step:
        return self._answer


def halves(env: Any) -> Halves | None:
    """The environment, if it has halves. Wrappers that do not pass them on (gymnasium's) have none."""
    return env if hasattr(env, "begin_step") else None


class Signal(Generic[T]):
    """A future of another thread as something to wait for. Its deadline is whoever's it is that keeps the promise."""

    late = False

    def __init__(self, future: Future[T]) -> None:
        self._future = future
        self._descriptor = os.eventfd(0)
        weakref.finalize(self, os.close, self._descriptor)
        waiting = [self]  # it lives until the other thread has written to it; then the future holds it no more

        def ring(_: Future[T]) -> None:
            signal = waiting.pop()
            os.eventfd_write(signal.fileno(), 1)  # `signal` keeps it open until then

        future.add_done_callback(ring)

    @property
    def done(self) -> bool:
        return self._future.done()

    def fileno(self) -> int:
        return self._descriptor

    def result(self) -> T:
        """Blocks until it is there; raises what the other thread raised."""
        return self._future.result()

    def discard(self, end: Callable[[T], object]) -> None:
        """Ends what nobody waits for any more, now or when it is there."""

        def ended(future: Future[T]) -> None:
            if future.exception() is None:
                end(future.result())

        self._future.add_done_callback(ended)


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Does it in a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 (raised where the result is asked for)
            future.set_exception(error)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return future


def aside(work: Callable[[], T]) -> Signal[T]:
    """The same, as something to wait for."""
    return Signal(in_thread(work))


def take_turns(tasks: Sequence[Iterator[Sequence[Wait]]]) -> None:
    """Runs all of them to their ends. Each goes on when everything that it yielded is ready or late; which of several
    comes first is a matter of time. One alone is not held up at all: it blocks when it finishes what it began."""
    if len(tasks) == 1:
        deque(tasks[0], maxlen=0)
    else:
        _Turns(tasks).run()


class _Turns:
    def __init__(self, tasks: Sequence[Iterator[Sequence[Wait]]]) -> None:
        self._tasks = tasks
        self._waits: dict[int, tuple[int, Wait]] = {}  # by descriptor: number of the task, what it waits for
        self._left = [0] * len(tasks)  # waits of each
        self._poll = select.poll()

    def run(self) -> None:
        ready, looked_s = list(range(len(self._tasks))), time.monotonic()
        while ready or self._waits:
            for number in ready:
                self._resume(number)
            descriptors = [descriptor for descriptor, _ in self._poll.poll(LOOK_S * 1e3)] if self._waits else []
            if time.monotonic() - looked_s > LOOK_S:
                descriptors += [d for d, (_, wait) in self._waits.items() if d not in descriptors and wait.late]
                looked_s = time.monotonic()
            ready = [number for number in map(self._arrived, descriptors) if not self._left[number]]

    def _resume(self, number: int) -> None:
        while True:
            waits = next(self._tasks[number], None)
            if waits is None:
                return
            if waits:
                break
        for wait in waits:
            descriptor = wait.fileno()
            self._waits[descriptor] = number, wait
            self._poll.register(descriptor, select.POLLIN)
        self._left[number] = len(waits)

    def _arrived(self, descriptor: int) -> int:
        """The task that waited for it."""
        number, _ = self._waits.pop(descriptor)
        self._poll.unregister(descriptor)
        self._left[number] -= 1
        return number
