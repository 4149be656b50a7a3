"""Connections that break, hang, crawl or lose bytes; and servers that are away for a while."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from counting import stream_of
from ledger import read_ledgers
from proxy import FaultProxy, Mode
from row import Figure, Row, audited
from servers import Server, Worker, await_that
from worker import Job

FAULTS: Mapping[Mode, tuple[str, Mapping[str, float]]] = {
    "drop": ("connections dropped as soon as they are made", {}),
    "refuse": ("connections refused", {}),
    "half_open": ("half-open: requests are swallowed, no answer comes", {}),
    "stall": ("requests arrive late, long after the client gave up", {}),
    "delay": ("each way takes 500 ms", {"delay_s": 0.5}),
    "reset": ("5% of the requests reset the connection", {"share": 0.05}),
    "cut": ("connections cut after 300 kB, within a request", {"cut_bytes": 300_000}),
    "slow": ("1 MB/s", {"bytes_per_s": 1e6}),
}
RAW = {"codec": "raw", "chunk_steps": 64}
RATE = 1000  # steps/s of a writer: an environment with pixels is rarely faster


def broken_connections(place: Path, *modes: Mode, seconds: float = 10) -> Row:
    """Two writers at the same pace, one through the proxy, one beside it. The faults, one after the other, fill the
    middle 60% of the time. What is acknowledged when the writers have ended counts, over the time until then."""
    with Server(place / "redis") as server, FaultProxy(server.url) as proxy:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    Worker("write", Job(place=str(place), name=name, url=url, seed=seed, rate=RATE, replay=RAW))
                )
                for seed, (name, url) in enumerate((("faulty", proxy.url), ("clean", server.url)))
            ]
            job = Job(place=str(place), name="r", url=proxy.url, rate=20)
            reader = stack.enter_context(Worker("read", job))
            await_that("the first chunks", lambda: all(w.latest("acknowledged") for w in writers))
            time.sleep(0.2 * seconds)
            drawn = reader.latest("batches")
            for mode in modes:
                proxy.set(mode, **FAULTS[mode][1])
                time.sleep(0.6 * seconds / len(modes))
                proxy.set("pass")
            time.sleep(0.2 * seconds)
            for worker in writers:
                worker.process.terminate()
            codes = [w.end() for w in writers]
            await_that("the reader to go on", lambda: reader.latest("batches") > drawn)
            codes.append(reader.end())
        found = audited(place, server.url)
    faulty, clean = (_steps_per_s(w) for w in writers)
    return Row(
        fault="; ".join(FAULTS[mode][0] for mode in modes),
        audit=found,
        figures={"throughput, of clean": Figure(value=100 * faulty / clean, unit="%", at_least=70)},
        wrong=tuple(w.log()[-2000:] for w, code in zip([*writers, reader], codes, strict=True) if code),
    )


def _steps_per_s(writer: Worker) -> float:
    """Acknowledged in the end, by the time from the first to the last line, closing and draining included."""
    lines = writer.progress()
    return float(lines[-1]["acknowledged"] / (lines[-1]["t"] - lines[0]["t"]))


def outage(place: Path, seconds: float, hang: bool) -> Row:
    """Redis is killed, or hangs (SIGSTOP), and is back after `seconds`. Actors go on stepping meanwhile."""
    with Server(place / "redis") as server, ExitStack() as stack:
        writers = [
            stack.enter_context(
                Worker("write", Job(place=str(place), name=f"w{i}", url=server.url, seed=i, rate=RATE, replay=RAW))
            )
            for i in range(2)
        ]
        await_that("the first chunks", lambda: all(w.latest("acknowledged") for w in writers))
        time.sleep(1)
        before, begun = [w.latest("added") for w in writers], time.monotonic()
        server.pause() if hang else server.kill()
        time.sleep(seconds)
        stepped = [w.latest("added") - b for w, b in zip(writers, before, strict=True)]
        waiting = sum(w.latest("waiting") for w in writers)
        back = time.monotonic()
        server.resume() if hang else server.start()
        await_that("the queues to drain", lambda: all(_drained(w, back) for w in writers), 60)
        drain_s = time.monotonic() - back
        codes = [w.end() for w in writers]
        found = audited(place, server.url)
        noticed = [w.logged("is away", begun) for w in writers]
    detection_s = max((at - begun if at else float("inf")) for at in noticed)
    return Row(
        fault=f"{'SIGSTOP' if hang else 'kill -9'} of Redis, back after {seconds:g} s",
        audit=found,
        figures={
            "noticed after": Figure(value=detection_s, at_most=2),
            "actors stepped meanwhile": Figure(
                value=100 * min(stepped) / (RATE * seconds), unit="% of their pace", at_least=90
            ),
            "chunks waited": Figure(value=waiting, unit=""),
            "drained within": Figure(value=drain_s, at_most=10),
        },
        wrong=tuple(w.log()[-2000:] for w, code in zip(writers, codes, strict=True) if code),
    )


def _drained(writer: Worker, since: float) -> bool:
    """Nothing waits but what is being stepped just now."""
    latest = next((line for line in reversed(writer.progress()) if "added" in line), None)
    return latest is not None and latest["t"] > since and latest["added"] - latest["acknowledged"] <= 4 * 64


def killed_in_outage(place: Path, chunks: int) -> Row:
    """A writer dies while Redis is away and its chunks wait on the disk: the stream's next writer brings them in."""
    with Server(place / "redis") as server:
        job = Job(place=str(place), name="w", url=server.url, rate=RATE, replay=RAW)
        with Worker("write", job) as writer:
            await_that("the first chunks", lambda: writer.latest("acknowledged"))
            server.kill()
            await_that("chunks to wait", lambda: writer.latest("waiting") >= chunks)
            writer.kill()
            waited = writer.latest("waiting")
            promised = len(read_ledgers([job.path("ledger")]))
            server.start()
            writer.start()
            await_that("the next life", lambda: _next_life(writer))
            await_that("it to drain", lambda: not writer.latest("waiting"))
            code = writer.end()
        found = audited(place, server.url)
    brought = found.lives[stream_of(0), 1] - promised
    return Row(
        fault="kill -9 of a writer while Redis is away",
        audit=found,
        figures={"waiting chunks that the next life brought in": Figure(value=brought, unit="", at_least=waited - 1)},
        wrong=() if code == 0 else (writer.log()[-2000:],),
    )


def _next_life(writer: Worker) -> bool:
    begun = [line for line in writer.progress() if line.get("said") == "began"]
    return len(begun) > 1 and writer.latest("acknowledged") > 0
