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
from harness import ROOT

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


@pytest.mark.slow
def test_ray_job_submit(cluster: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, environment = cluster
    run_dir = tmp_path / "run"
    submit = ["ray", "job", "submit", "--address", address, "--working-dir", "."]
    entry = ["python", "-m", "distwm.run", "dreamer4", "size=tiny", f"run_dir={run_dir}"]
    done = subprocess.run(
        [*submit, "--", *entry], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (run_dir / "report" / "index.html").stat().st_size > 0
