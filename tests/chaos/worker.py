"""Programs that are killed: a writer, a reader, and a parent that kills its own writers in the middle of commits.

    python tests/chaos/worker.py write|read|slaughter '{"place": "/tmp/x", "name": "w0", "url": "redis://...", ...}'

Each keeps what it saw in its `place`: NAME.ledger (what was acknowledged), NAME.jsonl (how far it is, twice a second)
and what it says in NAME.log.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import logging
import mmap
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counting import SPEC, Check, records, stream_of
from ledger import Ledger

from replay.config import LimiterConfig, ReplayConfig
from replay.errors import DistwmError
from replay.shards.shard import Shard
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter

REPORT_S = 0.25
KILL_WITHIN_S = 0.006  # of the begin of a commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is told. `replay` are keys of ReplayConfig; `rate` is steps or batches a second, 0 = no limit."""

    place: str
    name: str
    url: str
    run: str = "chaos"
    seed: int = 0
    rate: float = 0.0
    steps: int = 0  # to write before it ends; 0 = until SIGTERM
    times: int = 0  # writers to kill
    replay: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> ReplayConfig:
        options = dict(self.replay)
        if "limiter" in options:
            options["limiter"] = LimiterConfig(**options["limiter"])
        places = {"spool_dir": f"{self.place}/spool", "arena_dir": f"{self.place}/arena"}
        return ReplayConfig(url=self.url, **{"chunk_steps": 16, "arena_bytes": 2**25, **places, **options})

    def path(self, suffix: str) -> Path:
        return Path(self.place) / f"{self.name}.{suffix}"


class Progress:
    """Appends a line of figures with the time; never more often than every REPORT_S seconds, unless it must."""

    def __init__(self, job: Job) -> None:
        self._file = job.path("jsonl").open("a", buffering=1)
        self._next = 0.0

    def say(self, at_once: bool = False, **figures: object) -> None:
        if at_once or time.monotonic() >= self._next:
            self._next = time.monotonic() + REPORT_S
            self._file.write(json.dumps({"t": time.monotonic(), **figures}) + "\n")


class Pace:
    """Sleeps so that `step` returns `rate` times a second on average; catches up after a wait of up to a second."""

    def __init__(self, rate: float) -> None:
        self._rate, self._due = rate, time.monotonic()

    def step(self) -> None:
        if self._rate:
            self._due = max(self._due + 1 / self._rate, time.monotonic() - 1)
            if (early := self._due - time.monotonic()) > 0.01:
                time.sleep(early)


def until_asked() -> Callable[[], bool]:
    """Whether SIGTERM has not come yet."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    return lambda: not asked


def keep_ledger(ledger: Ledger, in_commit: mmap.mmap | None = None) -> None:
    """From now on, what a server acknowledges to this process goes into the ledger first of all."""
    commit = Shard.commit

    def commit_and_note(self: Shard, entry: Any, *rest: Any, **named: Any) -> Any:
        if in_commit is not None:
            in_commit[0] = 1
        found = commit(self, entry, *rest, **named)
        if in_commit is not None:
            in_commit[0] = 0
        ledger.append(entry)
        return found

    Shard.commit = commit_and_note  # type: ignore[method-assign]


def write(job: Job, in_commit: mmap.mmap | None = None) -> None:
    go, progress, pace = until_asked(), Progress(job), Pace(job.rate)
    keep_ledger(Ledger(job.path("ledger")), in_commit)
    writer = ReplayWriter(job.config, job.run, stream_of(job.seed), SPEC)
    progress.say(True, said="began", incarnation=writer.incarnation)
    added, wait_s = 0, 0.0
    for record in records(job.seed):
        if not go() or (job.steps and added >= job.steps):
            break
        pace.step()
        begun = time.monotonic()
        writer.add(record, source="random", policy_version=0)
        wait_s = max(wait_s, time.monotonic() - begun)
        added += 1
        progress.say(added=added, acknowledged=writer.acknowledged, waiting=_waiting(writer), wait_s=wait_s)
    begun = time.monotonic()
    writer.close()
    drain_s = time.monotonic() - begun
    progress.say(True, added=added, acknowledged=writer.acknowledged, waiting=0, wait_s=wait_s, drain_s=drain_s)


def _waiting(writer: ReplayWriter) -> int:
    return int(getattr(writer, "waiting_chunks", 0))


def read(job: Job) -> None:
    """Draws and checks batches. Ends at the first violation, with code 1."""
    go, progress, pace = until_asked(), Progress(job), Pace(job.rate)
    source = RedisSource(job.config, job.run, SPEC, timeout_s=job.config.outage_s)
    check, batches, windows, wait_s = Check(), 0, 0, 0.0
    while go():
        pace.step()
        begun = time.monotonic()
        stored = source.refresh()
        try:
            batch = source.batch((job.seed, batches), 8, 16)
        except LookupError:
            progress.say(batches=batches, windows=windows, steps=stored, wait_s=wait_s)
            time.sleep(0.05)
            continue
        wait_s = max(wait_s, time.monotonic() - begun)
        if wrong := check.batch(batch):
            progress.say(True, batches=batches, violations=wrong)
            raise AssertionError("; ".join(wrong))
        batches, windows = batches + 1, windows + len(batch.windows)
        progress.say(batches=batches, windows=windows, steps=stored, wait_s=wait_s)
    progress.say(True, batches=batches, windows=windows, wait_s=wait_s)
    source.close()


def slaughter(job: Job) -> None:
    """`times` lives of one stream, each killed at a random moment within a commit. Forks: imports cost it nothing."""
    in_commit, rng = mmap.mmap(-1, 1), random.Random(job.seed)
    progress, hits = Progress(job), 0
    for number in range(job.times):
        in_commit[0] = 0
        if not (child := os.fork()):
            _run(write, dataclasses.replace(job, name=f"{job.name}-{number}"), in_commit)
        if not _await_commit(child, in_commit, rng):
            raise AssertionError(f"writer {number} ended by itself; see its log")
        time.sleep(rng.uniform(0, KILL_WITHIN_S))
        hits += in_commit[0]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        progress.say(True, kills=number + 1, hits=hits)


def _await_commit(child: int, in_commit: mmap.mmap, rng: random.Random) -> bool:
    """Waits for a life's n-th commit to begin, n being random; False if the process ended before."""
    for _ in range(rng.randrange(1, 12)):
        for wanted in (0, 1):
            while in_commit[0] != wanted:
                if os.waitpid(child, os.WNOHANG)[0]:
                    return False
                time.sleep(0.0001)
    return True


class _Log(logging.StreamHandler):
    """Lines begin with the time of a clock that all processes share and nobody can turn."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{time.monotonic():.3f} {super().format(record)}"


def _run(program: Callable[..., None], job: Job, *rest: object) -> None:
    """The whole of a process: output to its log, errors of ours as their exit codes."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # goes with its parent
    log = os.open(job.path("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    if "FAKETIME_TIMESTAMP_FILE" in os.environ:  # libfaketime breaks the call behind time.sleep
        time.sleep = lambda seconds: threading.Event().wait(seconds) and None
    logging.basicConfig(handlers=[_Log()], level=logging.INFO)
    try:
        program(job, *rest)
        code = 0
    except DistwmError as error:
        Progress(job).say(True, error=type(error).__name__, said=str(error))
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = error.exit_code
    except BaseException:  # noqa: BLE001 (a fork must never return)
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _run({"write": write, "read": read, "slaughter": slaughter}[sys.argv[1]], Job(**json.loads(sys.argv[2])))
