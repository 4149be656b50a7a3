"""Memory and disks that are full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from row import Figure, Row, audited
from servers import Server, Worker, await_that
from worker import Job

from replay.config import ReplayConfig
from replay.shards.router import Router

RAW = {"codec": "raw", "chunk_steps": 64}


def full_memory(place: Path, seconds: float) -> Row:
    """maxmemory is far below the budget, and lowered once more while two writers write: the oldest chunks go."""
    with Server(place / "redis") as server, ExitStack() as stack:
        client = redis.Redis.from_url(server.url)
        limit = client.info("memory")["used_memory"] + 2**22
        client.config_set("maxmemory", limit)
        jobs = [Job(place=str(place), name=f"w{i}", url=server.url, seed=i, rate=3000, replay=RAW) for i in range(2)]
        writers = [stack.enter_context(Worker("write", job)) for job in jobs]
        reader = stack.enter_context(Worker("read", Job(place=str(place), name="r", url=server.url, rate=20)))
        await_that("the limit", lambda: _evicted(server.url) > 0)
        time.sleep(seconds / 2)
        before, lowered = [w.latest("acknowledged") for w in writers], time.monotonic()
        client.config_set("maxmemory", limit - 2**20)
        for writer, old in zip(writers, before, strict=True):
            await_that("commits", lambda w=writer, old=old: w.latest("acknowledged") > old)
        resumed_s = time.monotonic() - lowered
        time.sleep(seconds / 2)
        codes = [w.end() for w in (*writers, reader)]
        found = audited(place, server.url)
    return Row(
        fault="Redis out of memory (maxmemory), then lowered by 1 MiB",
        audit=found,
        figures={
            "commits resume after": Figure(value=resumed_s, at_most=2),
            "evicted chunks": Figure(value=found.evicted, unit="", at_least=1),
        },
        wrong=tuple(w.log()[-900:] for w, code in zip((*writers, reader), codes, strict=True) if code),
    )


def _evicted(url: str) -> int:
    router = Router(ReplayConfig(url=url), "chaos", outage_s=5)
    counters = router.shards[0].counters()
    router.close()
    return counters.get("inserted_chunks", 0) - counters.get("chunks", 0)


@contextlib.contextmanager
def small_disk(where: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size. Skips the test where this user may not mount one."""
    where.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(where)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(2**16)):
            pass
    return ballast


def full_disk_of_redis(place: Path, seconds: float) -> Row:
    """The disk of the append-only file is full for a while: Redis refuses writes and chunks wait. In the end Redis is
    killed and started again: what was acknowledged is on the disk."""
    with small_disk(place / "disk", 64) as disk, Server(disk / "redis") as server, ExitStack() as stack:
        job = Job(place=str(place), name="w", url=server.url, rate=500, replay=RAW)
        writer = stack.enter_context(Worker("write", job))
        await_that("the first chunks", lambda: writer.latest("acknowledged"))
        full = time.monotonic()
        ballast = fill(disk)
        time.sleep(seconds)
        stuck = writer.latest("added") - writer.latest("acknowledged")
        said = writer.logged("MISCONF", full)
        ballast.unlink()
        freed = time.monotonic()
        old = writer.latest("acknowledged")
        await_that("commits", lambda: writer.latest("acknowledged") > old)
        resumed_s = time.monotonic() - freed
        code = writer.end()
        server.restart()
        found = audited(place, server.url)
    return Row(
        fault=f"disk of Redis full for {seconds:g} s, then freed, then kill -9 of Redis",
        audit=found,
        figures={
            "the log names the reason after": Figure(value=(said or float("inf")) - full, at_most=seconds),
            "steps held back meanwhile": Figure(value=stuck, unit="", at_least=64),
            "commits resume after": Figure(value=resumed_s, at_most=5),
        },
        wrong=() if code == 0 else (writer.log()[-900:],),
    )


def full_disk_of_the_spool(place: Path) -> Row:
    """Redis is away, and the disk where chunks wait is full: acting stops, says why, and goes on afterwards."""
    with small_disk(place / "disk", 2) as disk, Server(place / "redis") as server, ExitStack() as stack:
        options = {**RAW, "spool_dir": str(disk / "spool")}
        job = Job(place=str(place), name="w", url=server.url, rate=2000, replay=options)
        writer = stack.enter_context(Worker("write", job))
        await_that("the first chunks", lambda: writer.latest("acknowledged"))
        began = time.monotonic()
        server.kill()
        await_that("the disk to be full", lambda: writer.logged("cannot wait", began), 30)
        time.sleep(1)
        added = writer.latest("added")
        time.sleep(1)
        stopped = writer.latest("added") - added
        server.start()
        old = writer.latest("acknowledged")
        await_that("commits", lambda: writer.latest("acknowledged") > old + 2000)
        code = writer.end()
        found = audited(place, server.url)
    return Row(
        fault="disk of the spool full while Redis is away",
        audit=found,
        figures={"steps while nothing could be kept": Figure(value=stopped, unit="", at_most=0)},
        wrong=() if code == 0 else (writer.log()[-900:],),
    )
