"""Half an hour of writing and reading with a random fault every 20 s: python tests/chaos/soak.py --minutes 30 --out DIR

Three writers and two readers on two servers with durability=process, each behind a FaultProxy. The first writer and
the first reader are never killed: their memory and file descriptors are what must not grow. Writes soak.jsonl (a line a
second) and soak.png into DIR, prints a line a fault, and ends with 1 if a criterion fails.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from audit import Audit
from counting import SPEC, stream_of
from proxy import FaultProxy, Mode
from row import audited
from servers import Server, Worker
from soak_report import criteria, picture
from worker import Job

from replay.config import ReplayConfig
from replay.shards.router import Router

EVERY_S, BREATH_S = 20.0, 8.0  # from fault to fault; at its end, all must be well again for this long
RATE = 300  # steps/s of each writer
OPTIONS = {"codec": "raw", "max_bytes": 48 * 2**20, "arena_bytes": 8 * 2**20}
NETWORK: tuple[tuple[Mode, float], ...] = (
    ("drop", 5),
    ("refuse", 5),
    ("half_open", 5),
    ("stall", 4),
    ("delay", 6),
    ("reset", 8),
    ("cut", 6),
)


class Soak:
    """The processes, what is done to them, and what is written down."""

    def __init__(self, place: Path, out: Path, stack: ExitStack, seed: int) -> None:
        self.place, self._random, self._begun = place, random.Random(seed), time.monotonic()
        self._lines = stack.enter_context((out / "soak.jsonl").open("w", buffering=1))
        self.servers = [stack.enter_context(Server(place / f"redis{i}")) for i in range(2)]
        self.proxies = [stack.enter_context(FaultProxy(s.url, seed)) for s in self.servers]
        self.urls = ",".join(s.url for s in self.servers)
        self._url = ",".join(p.url for p in self.proxies)
        seeds = _seeds(self._url, homes=(0, 1, 0))
        self.writers = [stack.enter_context(Worker("write", self._job(f"w{i}", s, RATE))) for i, s in enumerate(seeds)]
        self.readers = [stack.enter_context(Worker("read", self._job(f"r{i}", i, 10))) for i in range(2)]
        self._faults = self._shuffled()
        self.history: list[dict[str, Any]] = []

    def _job(self, name: str, seed: int, rate: float) -> Job:
        return Job(place=str(self.place), name=name, url=self._url, seed=seed, rate=rate, replay=OPTIONS)

    @property
    def workers(self) -> list[Worker]:
        return [*self.writers, *self.readers]

    def passed_s(self) -> float:
        return time.monotonic() - self._begun

    def fault(self) -> str:
        """Does the next one, undoes it, and says what it was."""
        name, do = next(self._faults)
        self.note(fault=name)
        do()
        return name

    def wait(self, seconds: float) -> None:
        """Writes a line a second meanwhile. Raises AssertionError if a worker ended by itself."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            self.note()
            for worker in self.workers:
                code = worker.process.poll()
                assert code is None, f"{worker.job.name} ended with code {code}: {worker.log()[-3000:]}"

    def note(self, **more: Any) -> None:
        line: dict[str, Any] = {"t": self.passed_s(), **more, "processes": {}}
        for name, pid in self._pids():
            if found := _usage(pid):
                line["processes"][name] = found
        line["acknowledged"] = {w.job.name: w.latest("acknowledged") for w in self.writers}
        line["waiting"] = {w.job.name: w.latest("waiting") for w in self.writers}
        line["batches"] = {r.job.name: r.latest("batches") for r in self.readers}
        self.history.append(line)
        self._lines.write(json.dumps(line) + "\n")

    def _pids(self) -> Iterator[tuple[str, int]]:
        yield "soak", psutil.Process().pid
        for worker in self.workers:
            yield worker.job.name, worker.process.pid
        for number, server in enumerate(self.servers):
            if server.pid is not None:
                yield f"redis{number}", server.pid

    def _shuffled(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Every fault once in random order, then again in another."""
        while True:
            faults: list[tuple[str, Callable[[], None]]] = [
                (f"kill -9 {w.job.name}", lambda w=w: self._kill(w)) for w in (*self.writers[1:], self.readers[1])
            ]
            for n, server in enumerate(self.servers):
                faults.append((f"kill -9 redis{n}", lambda s=server: self._kill_server(s)))
                faults.append((f"SIGSTOP redis{n}", lambda s=server: self._stop_server(s)))
            for mode, seconds in NETWORK:
                proxy = self._random.randrange(len(self.proxies))
                faults.append((f"{mode} proxy{proxy}", lambda p=proxy, m=mode, s=seconds: self._break(p, m, s)))
            self._random.shuffle(faults)
            yield from faults

    def _kill(self, worker: Worker) -> None:
        worker.kill()
        worker.start()

    def _kill_server(self, server: Server) -> None:
        server.kill()
        self.wait(self._random.uniform(0, 4))
        server.start()

    def _stop_server(self, server: Server) -> None:
        server.pause()
        self.wait(3)
        server.resume()

    def _break(self, number: int, mode: Mode, seconds: float) -> None:
        self.proxies[number].set(mode)
        self.wait(seconds)
        self.proxies[number].set("pass")


def _seeds(url: str, homes: Sequence[int]) -> list[int]:
    """Environments whose streams live on these servers, so that each server has its share."""
    router = Router(ReplayConfig(url=url), "probe")
    router.register(SPEC)
    found = {seed: router.shards.index(router.begin_life(stream_of(seed))[0]) for seed in range(20)}
    router.close()
    seeds = []
    for home in homes:
        seeds.append(next(seed for seed, at in found.items() if at == home and seed not in seeds))
    return seeds


def _usage(pid: int) -> tuple[float, int] | None:
    """Resident MiB and open files, or None if the process is gone."""
    try:
        process = psutil.Process(pid)
        return round(process.memory_info().rss / 2**20, 2), process.num_fds()
    except psutil.Error:
        return None


def soak(minutes: float, out: Path, seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="soak-") as directory, ExitStack() as stack:
        run = Soak(Path(directory), out, stack, seed)
        run.wait(5)
        audits: list[Audit] = []
        while run.passed_s() < 60 * minutes:
            begun = time.monotonic()
            name = run.fault()
            run.wait(max(EVERY_S - (time.monotonic() - begun), BREATH_S))
            audits.append(audited(run.place, run.urls, live=True))
            _say(run, name, audits[-1])
        codes = {w.job.name: w.end() for w in run.workers}
        audits.append(audited(run.place, run.urls))
        logs = {w.job.name: w.log()[-2000:] for w in run.workers if codes[w.job.name]}
    found = criteria(run.history, audits, logs)
    picture(run.history, out / "soak.png")
    print("\n".join(f"{'ok  ' if ok else 'FAIL'} {said}" for ok, said in found))
    return 0 if all(ok for ok, _ in found) else 1


def _say(run: Soak, fault: str, found: Audit) -> None:
    last, at = run.history[-1], int(run.passed_s())
    rss = " ".join(f"{name}={mb:.0f}" for name, (mb, _) in last["processes"].items())
    counts = f"acknowledged {found.acknowledged} chunks, waiting {sum(last['waiting'].values())}, "
    counts += f"lost {len(found.lost)}, duplicates {len(found.duplicates)}, torn {len(found.torn)}"
    print(f"[{at // 60:02d}:{at % 60:02d}] {fault:18} {counts}; MiB {rss}", flush=True)
    for said in (*found.lost[:3], *found.duplicates[:3], *found.torn[:3]):
        print("        " + said)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sys.exit(soak(given.minutes, given.out, given.seed))
