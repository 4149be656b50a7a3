"""Lives spread over the servers that answer; the list may grow; no number is given twice. And legal on a cluster."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from replay_cases import SPEC, make_steps, write

from replay.config import LimiterConfig, ReplayConfig
from replay.errors import TryAgain
from replay.shards.commit import Pace
from replay.shards.router import Router
from replay.shards.server import EmbeddedRedis, find_binary
from replay.shards.status import status
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter

Make = Callable[..., EmbeddedRedis]


@pytest.fixture
def servers(served: Make, tmp_path: Path) -> list[EmbeddedRedis]:
    return [served(tmp_path / f"server{number}") for number in range(3)]


def config_of(urls: list[str], tmp_path: Path, **options) -> ReplayConfig:
    spool = str(tmp_path / "spool")
    return ReplayConfig(url=",".join(urls), spool_dir=spool, **{"chunk_steps": 8, "connect_timeout_s": 0.5, **options})


def begin(config: ReplayConfig, stream: str) -> tuple[str, int]:
    """Where the stream's next life lies, and its number."""
    router = Router(config, "r")
    router.register(SPEC)
    shard, life = router.begin_life(stream)
    router.close()
    return shard.name, life.incarnation


def test_lives_spread_over_the_servers(servers: list[EmbeddedRedis], tmp_path: Path) -> None:
    config = config_of([server.start() for server in servers], tmp_path)
    for stream in range(20):
        writer = ReplayWriter(config, "r", f"s{stream}", SPEC)
        write(writer, make_steps(11))
        writer.close()
    router = Router(config, "r")
    steps = [s.counters()["steps"] for s in router.shards]
    assert min(steps) > 0
    assert sum(steps) == RedisSource(config, "r", SPEC).refresh() == status(config, "r").steps == 20 * 11
    assert router.max_bytes == config.max_bytes // 3


def test_the_list_of_servers_may_grow(servers: list[EmbeddedRedis], tmp_path: Path) -> None:
    urls = [server.start() for server in servers]
    small, grown = config_of(urls[:1], tmp_path), config_of(urls, tmp_path)
    before = {stream: begin(small, stream) for stream in map(str, range(12))}
    after = {stream: begin(grown, stream) for stream in before}
    assert {number for _, number in before.values()} == {1}
    assert {number for _, number in after.values()} == {2}, "no life is given twice"
    assert len({name for name, _ in after.values()}) == 3
    reordered = {stream: begin(config_of(urls[::-1], tmp_path), stream) for stream in before}
    assert {s: name for s, (name, _) in reordered.items()} == {s: name for s, (name, _) in after.items()}


def test_servers_that_never_answer_together_give_no_number_twice(servers: list[EmbeddedRedis], tmp_path: Path) -> None:
    config = config_of([server.start() for server in servers[:2]], tmp_path)
    servers[1].stop()
    for seed in range(2):
        writer = ReplayWriter(config, "r", "s", SPEC)
        write(writer, make_steps(20, seed=seed))
        writer.close()
        servers[seed].stop()
        servers[1 - seed].start()
    servers[1].start()
    source = RedisSource(config, "r", SPEC)
    assert source.refresh() == status(config, "r").steps == 2 * 20
    found = [source.episode(key).arrays["state"] for split in ("train", "valid") for key in source.episodes(split)]
    assert sorted(state[0, 1] for state in found) == [0, 1]


def test_a_dead_server_blocks_only_the_lives_that_it_holds(servers: list[EmbeddedRedis], tmp_path: Path) -> None:
    config = config_of([server.start() for server in servers], tmp_path, outage_s=0.5)
    writers = [ReplayWriter(config, "r", f"s{n}", SPEC) for n in range(12)]
    servers[1].stop()
    blocked = []
    for number, writer in enumerate(writers):
        write(writer, make_steps(11, seed=number))
        if writer.waiting_chunks:
            blocked.append(number)
            with pytest.raises(TryAgain):
                writer.close()
        else:
            writer.close()
    assert 0 < len(blocked) < 12
    again = [ReplayWriter(config, "r", f"s{n}", SPEC) for n in range(12)]
    assert min(writer.incarnation for writer in again) > 1
    for writer in again:
        write(writer, make_steps(11))
        writer.flush()
    servers[1].start()
    for writer in again:
        writer.close()
    assert RedisSource(config, "r", SPEC).refresh() == (24 - len(blocked)) * 11
    for number in blocked:  # what waits is found by the next writer that finds its server
        ReplayWriter(config, "r", f"s{number}", SPEC).close()
    assert RedisSource(config, "r", SPEC).refresh() == 24 * 11


def test_silent_servers_are_asked_at_once(servers: list[EmbeddedRedis], tmp_path: Path) -> None:
    config = config_of([server.start() for server in servers], tmp_path)
    for server in servers[:2]:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        begun_s = time.monotonic()
        assert begin(config, "s")[0] == f"unix://{servers[2].socket}"
        assert time.monotonic() - begun_s < 0.95, "half a second for both"
        os.kill(servers[2].pid, signal.SIGSTOP)
        with pytest.raises(TryAgain, match=r"did not answer for 0\.5 s"):
            ReplayWriter(config, "r", "s", SPEC)
    finally:
        for server in servers:
            os.kill(server.pid, signal.SIGCONT)


def test_writers_that_begin_at_once_get_different_numbers(servers: list[EmbeddedRedis], tmp_path: Path) -> None:
    config, numbers = config_of([server.start() for server in servers], tmp_path), []
    threads = [threading.Thread(target=lambda: numbers.append(begin(config, "s")[1])) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(set(numbers)) == 12


def test_a_server_without_a_disk_is_pointed_out_once(served: Make, tmp_path: Path, caplog) -> None:
    url = served(durability="none").start()
    for _ in range(2):
        begin(config_of([url], tmp_path), "s")
    begin(config_of([url], tmp_path, durability="none"), "s")
    assert caplog.text.count("keeps experience in memory only") == 1
    caplog.clear()
    begin(config_of([served(tmp_path / "other").start()], tmp_path), "s")
    assert caplog.text == ""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A cluster of one server that holds all slots."""
    port = _port()
    command = [find_binary(), "--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--dir", tmp_path]
    process = subprocess.Popen([*map(str, command), "--save", ""], stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    try:
        deadline = time.monotonic() + 20
        while not _answers(client):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for first in range(0, 16384, 1024):
            client.execute_command("CLUSTER", "ADDSLOTS", *range(first, first + 1024))
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _port() -> int:
    """One that is free, as is the cluster's own, 10000 above."""
    while True:
        port = random.randint(20000, 50000)
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10000))
                return port
            except OSError:
                continue


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_all_commands_are_legal_on_a_cluster(cluster: str, tmp_path: Path) -> None:
    limiter = LimiterConfig(samples_per_insert=1, min_steps=100)
    config = config_of([cluster], tmp_path, max_bytes=20_000, limiter=limiter)
    writer = ReplayWriter(config, "r", "s", SPEC)
    for seed in range(10):
        write(writer, make_steps(40, seed=seed))
    writer.close()
    (shard,) = Router(config, "r").shards
    counted = shard.counters()
    assert counted["inserted_chunks"] == 50 > counted["chunks"] > 0, "some were evicted"
    cursors = [cursor for cursor, _ in shard.tail(0)]
    assert cursors == list(range(shard.state().oldest, 51))
    assert RedisSource(config, "r", SPEC).refresh() <= counted["steps"]
    shard.draw("learner", 10, Pace(config=limiter))
    shard.send_hints(b"hint")
    assert [payload for _, payload in shard.hints("0")] == [b"hint"]
    assert shard.evict(1) == 1
    assert shard.evict(10**9) == counted["chunks"] - 1
    assert shard.state().oldest == 51
    assert shard.counters()["bytes"] == shard.counters()["steps"] == 0
