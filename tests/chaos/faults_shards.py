"""One of three servers is gone: who notices, and who must not."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from row import Figure, Row, audited
from servers import Server, Worker, await_that
from worker import Job

from replay.config import ReplayConfig
from replay.shards.router import Router

RATE = 400  # steps/s of each of eight writers


def dead_shard(place: Path, seconds: float) -> Row:
    """Eight streams on three servers; the first server dies. The others' streams must not feel it; a writer of its own
    that is started again, and one that is new, must find another server; the reader must go on. Then it is back."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(place / f"redis{i}")) for i in range(3)]
        urls = ",".join(s.url for s in servers)

        def work(kind: str, name: str, **options: float) -> Worker:
            return stack.enter_context(Worker(kind, Job(place=str(place), name=name, url=urls, **options)))  # type: ignore[arg-type]

        writers = [work("write", f"w{i}", seed=i, rate=RATE) for i in range(8)]
        reader = work("read", "r", rate=20)
        await_that("the first chunks", lambda: all(w.latest("acknowledged") for w in writers))
        await_that("the first batches", lambda: reader.latest("batches"))
        homes = _homes(urls)
        struck = [w for w in writers if homes[f"counting-{w.job.seed}"] == 0]
        spared = [w for w in writers if w not in struck]
        assert struck, homes
        time.sleep(1)
        servers[0].kill()
        died, before = time.monotonic(), [w.latest("acknowledged") for w in spared]
        drawn = reader.latest("batches")
        restarted, new = struck[0], work("write", "new", seed=8, rate=RATE)
        restarted.kill()
        told = len(restarted.progress())
        restarted.start()
        time.sleep(seconds)
        figures = {
            "other streams' pace": Figure(
                value=100
                * min(w.latest("acknowledged") - b for w, b in zip(spared, before, strict=True))
                / (RATE * seconds),
                unit="%",
                at_least=90,
            ),
            "new stream's first chunk after": Figure(value=_first_ack(new.progress(), died), at_most=10),
            "restarted stream's first chunk after": Figure(
                value=_first_ack(restarted.progress()[told:], died), at_most=10
            ),
            "batches meanwhile": Figure(value=reader.latest("batches") - drawn, unit="", at_least=5 * seconds),
        }
        servers[0].start()
        await_that("the queues to drain", lambda: not any(w.latest("waiting") for w in writers))
        codes = [w.end() for w in (*writers, new, reader)]
        found = audited(place, urls)
    ended = zip((*writers, new, reader), codes, strict=True)
    return Row(
        fault=f"one of three servers dead for {seconds:g} s",
        audit=found,
        figures=figures,
        wrong=tuple(f"{w.job.name}: {w.log()[-900:]}" for w, code in ended if code),
    )


def _homes(urls: str) -> dict[str, int]:
    """The server of each stream."""
    router = Router(ReplayConfig(url=urls), "chaos", outage_s=5)
    homes = {e.id.stream: number for number, shard in enumerate(router.shards) for _, e in shard.tail(0)}
    router.close()
    return homes


def _first_ack(lines: list[dict], since: float) -> float:
    """Seconds until something was acknowledged."""
    return next((line["t"] - since for line in lines if line.get("acknowledged")), float("inf"))
