"""Servers that come back without what they had acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from row import Figure, Row, audited
from servers import Server, Worker, await_that
from worker import Job

from replay.errors import TryAgain


def _stops(place: Path, fault: str, take: Callable[[Server], None], prepare: Callable[[Server], None]) -> Row:
    """With on_loss=stop, writer and reader end with ExperienceLost, and nothing is written over what is left."""
    with Server(place / "redis") as server, ExitStack() as stack:
        job = Job(place=str(place), name="w", url=server.url, rate=500)
        writer = stack.enter_context(Worker("write", job))
        reader = stack.enter_context(Worker("read", Job(place=str(place), name="r", url=server.url, rate=20)))
        await_that("the first batches", lambda: reader.latest("batches"))
        prepare(server)
        time.sleep(1)
        server.kill()
        take(server)
        back = time.monotonic()
        server.start()
        codes = [await_that("an end", lambda w=w: w.process.poll(), 30) for w in (writer, reader)]
        noticed = [_lost_at(w) - back for w in (writer, reader)]
        found = audited(place, server.url)
    ended = zip((writer, reader), codes, strict=True)
    return Row(
        fault=fault,
        audit=replace(found, lost=[]),
        figures={
            "acknowledged chunks that were taken": Figure(value=len(found.lost), unit="", at_least=1),
            "writer stops after": Figure(value=noticed[0], at_most=2),
            "reader stops after": Figure(value=noticed[1], at_most=2),
        },
        wrong=tuple(f"{w.kind} ended with {c}: {w.log()[-900:]}" for w, c in ended if c != TryAgain.exit_code),
    )


def _lost_at(worker: Worker) -> float:
    return next((line["t"] for line in worker.progress() if line.get("error") == "ExperienceLost"), float("inf"))


def emptied(place: Path) -> Row:
    return _stops(place, "Redis comes back empty, on_loss=stop", lambda s: s.empty(), lambda s: None)


def rewound(place: Path) -> Row:
    older = place / "older"
    return _stops(
        place, "Redis comes back with older data, on_loss=stop", lambda s: s.put_back(older), lambda s: s.save_to(older)
    )


def goes_on(place: Path, empty: bool) -> Row:
    """With on_loss=continue everyone says what is lost and goes on; from then on nothing is lost."""
    older = place / "older"
    go_on = {"on_loss": "continue"}
    with Server(place / "redis") as server, ExitStack() as stack:
        job = Job(place=str(place), name="before", url=server.url, rate=500, replay=go_on)
        writer = stack.enter_context(Worker("write", job))
        job = Job(place=str(place), name="r", url=server.url, rate=20, replay=go_on)
        reader = stack.enter_context(Worker("read", job))
        await_that("the first batches", lambda: reader.latest("batches"))
        server.save_to(older)
        time.sleep(1)
        server.kill()
        server.empty() if empty else server.put_back(older)
        back = time.monotonic()
        server.start()
        before = [writer.latest("acknowledged"), reader.latest("batches")]
        await_that("commits", lambda: writer.latest("acknowledged") > before[0] + 500)
        await_that("batches", lambda: reader.latest("batches") > before[1] + 20)
        said = writer.logged("came back", back)
        codes = [w.end() for w in (writer, reader)]
        found = audited(place, server.url, since=back)
    return Row(
        fault=f"Redis comes back {'empty' if empty else 'with older data'}, on_loss=continue: what came after it",
        audit=found,
        figures={"said after": Figure(value=(said or float("inf")) - back, at_most=2)},
        wrong=tuple(f"{w.kind}: {w.log()[-2000:]}" for w, code in zip((writer, reader), codes, strict=True) if code),
    )
