"""The same command as a Ray job, on a cluster of its own with token authentication."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from harness import ROOT, ledger_of, records

BIN = Path(sys.executable).parent


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of the job server of a fresh one-node cluster, and the environment that may talk to it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment = {
        **kept,
        "PATH": f"{BIN}:{kept['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_JOB_STOP_WAIT_TIME_S": "90",
    }
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: it holds unix sockets
    dashboard = free_port()
    words = {
        "port": free_port(),
        "dashboard-port": dashboard,
        "dashboard-host": "127.0.0.1",
        "dashboard-agent-listen-port": free_port(),
        "ray-client-server-port": free_port(),
        "num-cpus": 2,
        "object-store-memory": 256 * 2**20,
        "temp-dir": folder,
    }
    head = subprocess.Popen(
        [BIN / "ray", "start", "--head", "--block", "--disable-usage-stats", *(f"--{k}={v}" for k, v in words.items())],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        deadline = time.monotonic() + 90
        while subprocess.run(
            [BIN / "ray", "job", "list", "--address", address], env=environment, capture_output=True
        ).returncode:
            assert head.poll() is None, "the cluster does not start"
            assert time.monotonic() < deadline, "the job server does not answer"
            time.sleep(1)
        yield address, environment
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def ray_job(cluster: tuple[str, dict[str, str]], verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    address, environment = cluster
    line = [str(BIN / "ray"), "job", verb, "--address", address, *words]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)


@pytest.mark.slow
def test_submit_stop_and_submit_again(cluster: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """`ray job stop` leaves a checkpoint; the same command, submitted again, finishes what it began."""
    run_dir = tmp_path / "run"
    budgets = [f"stages.{stage}.budget_steps=300" for stage in ("tokenizer", "dynamics")]
    entry = ["--working-dir", ".", "--", "python", "-m", "distwm.run", "dreamer4", "size=tiny", f"run_dir={run_dir}"]
    named = ["--no-wait", "--submission-id", "first"]
    begun = ray_job(cluster, "submit", *named, *entry, *budgets, "checkpoint_every_s=1000")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    deadline = time.monotonic() + 120
    while ("tokenizer", "update", 20) not in ledger_of(run_dir):
        assert time.monotonic() < deadline, ray_job(cluster, "logs", "first").stdout
        time.sleep(0.1)
    assert ray_job(cluster, "stop", "first").returncode == 0
    stopped = ledger_of(run_dir)
    assert ("tokenizer", "stage_end", 300) not in stopped
    assert int(max(path.name for path in (run_dir / "checkpoints").iterdir())) >= records(run_dir)[-1]["slice"]

    done = ray_job(cluster, "submit", *entry, *budgets, "checkpoint_every_s=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ledger_of(run_dir)[: len(stopped)] == stopped
    assert len(ledger_of(run_dir)) == len(set(ledger_of(run_dir)))
    assert (run_dir / "report" / "index.html").stat().st_size > 0
