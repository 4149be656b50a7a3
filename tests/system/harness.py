"""Runs of the real command in processes of their own, and the marks they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOYS = ROOT / "tests" / "toys"
TOY = str(TOYS / "toy.yaml")


class Command:
    """`python -m distwm.run ...`, whose processes all end with the test."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "DISTWM_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "distwm.run", *words],
            cwd=ROOT,
            env={**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOYS), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def __call__(self, *words: str, timeout_s: float = 200, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def kill_when(
        self, ready: Callable[[], bool], *words: str, by: int = signal.SIGKILL, timeout_s: float = 120
    ) -> int:
        """Starts the command, sends a signal as soon as `ready()`, and returns the exit code."""
        process, deadline = self.start(*words), time.monotonic() + timeout_s
        while not ready():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, f"never ready to be killed: {words}"
            time.sleep(0.02)
        process.send_signal(by)
        process.communicate(timeout=90)
        return process.returncode

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()


def descendants(pid: int) -> dict[int, str]:
    """Command line by process number, of all that a process has started."""
    parents, lines = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            number = int(status.parent.name)
            parents[number] = int(status.read_text().rpartition(")")[2].split()[1])
            lines[number] = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
    found = {pid}
    while more := {number for number, parent in parents.items() if parent in found} - found:
        found |= more
    return {number: lines[number] for number in found}


def records(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def ledger_of(run_dir: Path) -> list[tuple[str, str, int]]:
    """What was done, in order: (stage, kind, step)."""
    return [(r["stage"], r["kind"], r["step"]) for r in records(run_dir) if r["kind"] != "fleet"]
