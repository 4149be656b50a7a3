"""Redis servers and workers that may be killed, stopped, emptied and started again; all end with their context."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker import Job

from replay.config import Durability
from replay.shards.server import EmbeddedRedis

ROOT = Path(__file__).resolve().parents[2]
_TAIL = 2**14  # bytes of a worker's figures that `latest` looks at
_NOT_DATA = ("redis.sock", "owner", "redis.log")


def await_that(what: str, found: Callable[[], Any], timeout_s: float = 30) -> Any:
    """The first true answer of `found`, asked every few milliseconds. Raises AssertionError at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.005)
    return answer


class Server:
    """A real redis-server with its data under `directory`, always at the same address."""

    def __init__(self, directory: Path, durability: Durability = "process", max_bytes: int = 2**28) -> None:
        self.directory, self._durability, self._max_bytes = directory, durability, max_bytes
        self._redis: EmbeddedRedis | None = None
        self.url = ""

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._redis is not None and self.pid is not None:
            self.resume()
            self._redis.stop()

    @property
    def pid(self) -> int | None:
        return self._redis.pid if self._redis else None

    def start(self) -> None:
        self._redis = EmbeddedRedis(self.directory, self._max_bytes, durability=self._durability)
        self.url = self._redis.start(timeout_s=60)

    def kill(self) -> None:
        """kill -9, and nothing else."""
        self._signal(signal.SIGKILL)
        assert self._redis is not None
        self._redis.stop()

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """The process hangs: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def empty(self) -> None:
        """Takes all data of a server that does not run."""
        for path in self._data():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def save_to(self, directory: Path) -> None:
        """Copies the data as they are on disk now."""
        directory.mkdir()
        for path in self._data():
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, directory / path.name)

    def put_back(self, directory: Path) -> None:
        """Data from an earlier `save_to` instead of the present ones; the server does not run."""
        self.empty()
        shutil.copytree(directory, self.directory, dirs_exist_ok=True)

    def _data(self) -> list[Path]:
        return [path for path in self.directory.iterdir() if path.name not in _NOT_DATA]

    def _signal(self, number: int) -> None:
        assert self.pid is not None, "the server does not run"
        os.kill(self.pid, number)


class Worker:
    """A process of tests/chaos/worker.py. `again` starts it once more after it ended, under the next seed's life."""

    def __init__(self, kind: str, job: Job, environment: Mapping[str, str] | None = None) -> None:
        self.kind, self.job = kind, job
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
        program = str(Path(__file__).with_name("worker.py"))
        self._words = [sys.executable, program, kind, json.dumps(dataclasses.asdict(job))]
        self.start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._words, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)

    def end(self, timeout_s: float = 60) -> int:
        """Asks it to finish what it does; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60) -> int:
        return self.process.wait(timeout_s)

    def progress(self) -> list[dict[str, Any]]:
        path = self.job.path("jsonl")
        lines = path.read_text().split("\n") if path.exists() else []
        return [json.loads(line) for line in lines[:-1] if line]  # the last one may be torn

    def latest(self, name: str) -> Any:
        """The newest figure of this name; 0 before there is one."""
        path = self.job.path("jsonl")
        if not path.exists():
            return 0
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().split(b"\n")[:-1]
        found = (json.loads(line) for line in reversed(lines) if line.startswith(b"{") and f'"{name}"'.encode() in line)
        return next((line[name] for line in found), 0)

    def logged(self, words: str, after: float) -> float | None:
        """When it first logged these words later than `after` (both on the clock of time.monotonic)."""
        for line in self.log().splitlines():
            at, _, text = line.partition(" ")
            if words in text and at.replace(".", "", 1).isdigit() and float(at) >= after:
                return float(at)
        return None

    def log(self) -> str:
        path = self.job.path("log")
        return path.read_text() if path.exists() else ""
