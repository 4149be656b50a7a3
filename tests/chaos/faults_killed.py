"""Processes that end without a word: writers in the middle of a commit, servers under load."""

from __future__ import annotations

import random
import time
from pathlib import Path

from proxy import FaultProxy
from row import Figure, Row, audited
from servers import Server, Worker, await_that
from worker import Job

RAW = {"codec": "raw"}  # bodies of some ten kilobytes: a commit takes its time


def killed_writers(place: Path, times: int) -> Row:
    """kill -9 at a random moment of a commit; the link is slow enough for all its moments to be hit."""
    with Server(place / "redis") as server, FaultProxy(server.url) as proxy:
        proxy.set("delay", delay_s=0.002)
        job = Job(place=str(place), name="w", url=proxy.url, times=times, seed=3, replay=RAW)
        with Worker("slaughter", job) as parent:
            code = parent.wait(60 + times)
            hits = parent.latest("hits")
        found = audited(place, server.url)
    return Row(
        fault="kill -9 of a writer within a commit",
        times=times,
        audit=found,
        figures={"killed before the acknowledgement": Figure(value=hits, unit=f"of {times}", at_least=times / 4)},
        wrong=() if code == 0 else (parent.log(),),
    )


def killed_servers(place: Path, times: int) -> Row:
    """kill -9 of Redis while two writers write all they can and one reader reads; it is started again at once."""
    rng, resumed_s = random.Random(0), []
    with Server(place / "redis") as server:
        jobs = [Job(place=str(place), name=f"w{i}", url=server.url, seed=i, rate=3000, replay=RAW) for i in range(2)]
        with (
            Worker("write", jobs[0]) as first,
            Worker("write", jobs[1]) as second,
            Worker("read", Job(place=str(place), name="r", url=server.url, rate=20)) as reader,
        ):
            writers = (first, second)
            await_that("the first chunks", lambda: all(w.latest("acknowledged") for w in writers))
            for _ in range(times):
                time.sleep(rng.uniform(0.3, 1.0))
                before = [w.latest("acknowledged") for w in writers]
                server.restart()
                begun = time.monotonic()
                for writer, old in zip(writers, before, strict=True):
                    await_that("commits after the restart", lambda w=writer, old=old: w.latest("acknowledged") > old)
                resumed_s.append(time.monotonic() - begun)
            codes = [w.end() for w in (*writers, reader)]
        found = audited(place, server.url)
    return Row(
        fault="kill -9 of Redis under load, durability=process, started again",
        times=times,
        audit=found,
        figures={"writers go on by themselves after": Figure(value=max(resumed_s), at_most=5)},
        wrong=tuple(w.log()[-2000:] for w, code in zip((*writers, reader), codes, strict=True) if code),
    )
