"""Clocks that jump by an hour: libfaketime turns the wall clock of Redis and of a writer while they run."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
from row import Figure, Row, audited
from servers import Server, Worker, await_that
from worker import Job

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


class Clock:
    """A wall clock of its own for processes that start with its `environment`."""

    def __init__(self, file: Path) -> None:
        """Skips the test where libfaketime is not installed."""
        found = [str(path) for pattern in _PLACES for path in sorted(Path("/").glob(pattern[1:]))]
        if not found:
            pytest.skip("needs libfaketime: apt-get install faketime")
        self._file = file
        self.environment = {
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Sets it `seconds` ahead of the real time."""
        temporary = self._file.with_suffix(".new")
        temporary.write_text(f"{seconds:+d}\n")
        temporary.replace(self._file)


def jumping_clocks(place: Path, seconds: float) -> Row:
    """Redis' clock goes an hour ahead, then an hour back behind; a writer's the other way round. Another writer and
    the reader keep the right time."""
    ours, theirs = Clock(place / "redis.time"), Clock(place / "writer.time")
    with ExitStack() as stack:
        with mock.patch.dict(os.environ, ours.environment):
            server = stack.enter_context(Server(place / "redis"))
        jobs = [Job(place=str(place), name=f"w{i}", url=server.url, seed=i, rate=500) for i in range(2)]
        writers = [stack.enter_context(Worker("write", jobs[0], theirs.environment))]
        writers.append(stack.enter_context(Worker("write", jobs[1])))
        reader = stack.enter_context(Worker("read", Job(place=str(place), name="r", url=server.url, rate=20)))
        workers = [*writers, reader]
        await_that("the first batches", lambda: reader.latest("batches"))
        slowest = 0.0
        for jump in (3600, -3600, 0):
            ours.jump(jump)
            theirs.jump(-jump)
            begun = time.monotonic()
            for worker, name in zip(workers, ("acknowledged", "acknowledged", "batches"), strict=True):
                old = worker.latest(name)
                await_that(f"{name} after a jump", lambda w=worker, n=name, old=old: w.latest(n) > old)
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(seconds / 3)
        codes = [w.end() for w in workers]
        found = audited(place, server.url)
        pids = [server.pid, writers[0].process.pid]
    for leftover in (path for pid in pids for path in Path("/dev/shm").glob(f"*faketime_*_{pid}")):
        leftover.unlink()  # libfaketime forgets these
    away = sum("is away" in w.log() for w in workers)
    return Row(
        fault="clocks of Redis and of a writer jump by an hour, ahead and back",
        times=3,
        audit=found,
        figures={
            "everyone goes on after": Figure(value=slowest, at_most=2),
            "evicted or expired": Figure(value=found.evicted, unit="chunks", at_most=0),
            "took Redis for away": Figure(value=away, unit="", at_most=0),
        },
        wrong=tuple(w.log()[-900:] for w, code in zip(workers, codes, strict=True) if code),
    )
