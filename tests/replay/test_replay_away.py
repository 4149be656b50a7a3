"""Shards that are away or lose their data, and readers that share what they have."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import redis
from replay_cases import SPEC, make_steps, write

from replay.config import ReplayConfig, SamplingConfig
from replay.errors import ExperienceLost, TryAgain
from replay.schema import Batch
from replay.shards.connection import Connection
from replay.shards.server import EmbeddedRedis
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter

Make = Callable[..., EmbeddedRedis]
EPISODES, STEPS = 12, 24


@pytest.fixture
def config(redis_url: str, tmp_path: Path) -> ReplayConfig:
    return ReplayConfig(
        url=redis_url, chunk_steps=8, valid_share=0.0, arena_dir=str(tmp_path / "arena"), arena_bytes=2**22
    )


def fill(config: ReplayConfig, run: str, stream: str = "s", episodes: int = EPISODES) -> None:
    writer = ReplayWriter(config, run, stream, SPEC)
    for seed in range(episodes):
        write(writer, make_steps(STEPS, seed=seed), source=("random", "expert")[seed % 2])
    writer.close()


def warm(source: RedisSource) -> None:
    for key in source.episodes("train"):
        source.episode(key)


def check(batch: Batch) -> None:
    for row, window in enumerate(batch.windows):
        state, length = batch.arrays["state"][row], window.length
        assert (state[:, 1] == window.key.episode).all()
        assert (state[:, 0] == np.arange(window.start, window.start + length)).all()


def equal(one: Batch, other: Batch) -> bool:
    same = all((one.arrays[name] == array).all() for name, array in other.arrays.items())
    return one.windows == other.windows and same


def test_one_of_three_is_away(served: Make, tmp_path: Path, config: ReplayConfig, caplog) -> None:
    """Draws come from the other two, then from all again; each change is said once."""
    servers = [served(tmp_path / str(n)) for n in range(3)]
    config = replace(config, url=",".join(s.start() for s in servers), arena_bytes=0, connect_timeout_s=0.3)
    for stream in range(24):  # some on each, almost surely
        fill(config, "run", f"s{stream}", episodes=1)
    source = RedisSource(config, "run", SPEC)
    before = source.batch((1,), 64, 8)
    servers[1].stop()
    with caplog.at_level(logging.WARNING):
        began = time.monotonic()
        drawn = set()
        for step in range(30):
            batch = source.batch((step,), 16, 8)
            check(batch)
            drawn |= {w.key.stream for w in batch.windows}
            assert source.refresh() == 24 * STEPS
        assert time.monotonic() - began < 5
        assert 2 <= len(drawn) < 24
        assert caplog.text.count("is away") == 1
        assert servers[1].start() in config.url
        time.sleep(1.5)
        source.refresh()
        assert equal(source.batch((1,), 64, 8), before)
    assert caplog.text.count("is back") == 1
    source.close()


def test_what_is_resident_needs_no_server(served: Make, config: ReplayConfig) -> None:
    server = served()
    config = replace(config, url=server.start(), connect_timeout_s=0.3)
    fill(config, "run")
    source = RedisSource(config, "run", SPEC)
    warm(source)
    before = [source.batch((step,), 4, 8) for step in range(10)]
    server.stop()
    assert all(equal(source.batch((step,), 4, 8), before[step]) for step in range(10))
    assert source.refresh() == EPISODES * STEPS
    source.close()


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_a_batch_waits_for_the_only_server(served: Make, config: ReplayConfig, how: str) -> None:
    server = served()
    config = replace(config, url=server.start(), arena_bytes=0, connect_timeout_s=0.3)
    fill(config, "run")
    source = RedisSource(config, "run", SPEC)
    before = source.batch((0,), 4, 8)
    pid = server.pid
    assert pid is not None

    def come_back() -> None:
        time.sleep(1.0)
        server.start() if how == "gone" else os.kill(pid, signal.SIGCONT)

    server.stop() if how == "gone" else os.kill(pid, signal.SIGSTOP)
    thread = threading.Thread(target=come_back)
    thread.start()
    assert equal(source.batch((0,), 4, 8), before)
    thread.join()
    source.close()


def test_a_server_that_stays_away_ends_the_wait(served: Make, config: ReplayConfig) -> None:
    server = served()
    config = replace(config, url=server.start(), arena_bytes=0, connect_timeout_s=0.3, outage_s=1.5)
    fill(config, "run")
    source = RedisSource(config, "run", SPEC)
    server.stop()
    assert source.refresh() == EPISODES * STEPS
    began = time.monotonic()
    with pytest.raises(TryAgain, match="did not answer"):
        source.batch((0,), 4, 8)
    assert time.monotonic() - began < 3
    with pytest.raises(TryAgain):
        source.refresh()
    with pytest.raises(TryAgain):
        RedisSource(config, "run", SPEC)
    assert time.monotonic() - began < 6
    source.close()


def lose(server: EmbeddedRedis, run: str, how: str, older: Path) -> None:
    if how == "another":
        client = redis.Redis(unix_socket_path=str(server.socket))
        client.set(f"{{distwm:{run}}}:epoch", "another")
        return
    server.stop()
    shutil.rmtree(server.directory)
    if how == "older":
        shutil.copytree(older, server.directory)
    server.start()


@pytest.mark.parametrize("how", ["empty", "older", "another"])
@pytest.mark.parametrize("asked", ["refresh", "batch"])
def test_a_loss_stops(served: Make, tmp_path: Path, config: ReplayConfig, how: str, asked: str) -> None:
    """It is found by whoever looks first; a batch only looks when a body is missing."""
    server = served()
    config = replace(config, url=server.start(), arena_bytes=0)
    fill(config, "run", "a", episodes=2)
    server.stop()
    shutil.copytree(server.directory, tmp_path / "older")
    server.start()
    fill(config, "run", "b")
    source = RedisSource(config, "run", SPEC)
    lose(server, "run", how, tmp_path / "older")
    if asked == "batch" and how == "another":
        check(source.batch((0,), 8, 8))  # all bodies are there
        return
    with pytest.raises(ExperienceLost, match=r"came back .* 42 that it had acknowledged.*replay.on_loss"):
        source.refresh() if asked == "refresh" else source.batch((0,), 32, 8)
    source.close()


@pytest.mark.parametrize("how", ["empty", "older", "another"])
def test_a_loss_may_be_accepted(served: Make, tmp_path: Path, config: ReplayConfig, how: str, caplog) -> None:
    server = served()
    config = replace(config, url=server.start(), on_loss="continue")
    fill(config, "run", "a", episodes=2)
    server.stop()
    shutil.copytree(server.directory, tmp_path / "older")
    server.start()
    fill(config, "run", "b")
    source = RedisSource(config, "run", SPEC)
    warm(source)
    lose(server, "run", how, tmp_path / "older")
    left = {"empty": 0, "older": 2, "another": 2 + EPISODES}[how]
    assert source.refresh() == left * STEPS
    assert f"Going on with {3 * left} chunks of it; 42 were known." in caplog.text
    assert source.refresh() == left * STEPS
    assert caplog.text.count("Going on") == 1
    fill(config, "run", "c", episodes=3)
    assert source.refresh() == (left + 3) * STEPS
    for step in range(10):
        check(source.batch((step,), 8, 8))
    source.close()


def test_a_look_is_one_round_trip(config: ReplayConfig, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(config, run)
    source, asked = RedisSource(config, run, SPEC), []
    call = Connection.call

    def counting(self: Connection, doing: str, *rest) -> object:
        asked.append(doing)
        return call(self, doing, *rest)

    monkeypatch.setattr(Connection, "call", counting)
    source.refresh()
    assert len(asked) == 1
    warm(source)
    asked.clear()
    source.batch((0,), 8, 8)
    assert asked == [], "warm: no round trip"
    source.close()


def test_a_source_may_refresh_by_itself(config: ReplayConfig, run: str) -> None:
    fill(config, run, "a", episodes=1)
    patient, eager = RedisSource(config, run, SPEC), RedisSource(replace(config, refresh_every_s=0.05), run, SPEC)
    fill(config, run, "b", episodes=5)
    time.sleep(0.1)
    assert {w.key.stream for w in eager.batch((0,), 32, 8).windows} == {"a", "b"}
    assert {w.key.stream for w in patient.batch((0,), 32, 8).windows} == {"a"}
    for source in (patient, eager):
        source.close()


def test_a_view_of_some_labels(config: ReplayConfig, run: str) -> None:
    fill(config, run)
    source = RedisSource(config, run, SPEC)
    experts = source.only(["expert"])
    assert experts.spec == SPEC
    assert experts.refresh() == EPISODES * STEPS
    assert [k.episode for k in experts.episodes("train")] == [k for k in range(EPISODES) if k % 2]
    for step in range(10):
        batch = experts.batch((step,), 8, 6, ["state"], context=2, across=False)
        assert all(w.key.episode % 2 for w in batch.windows)
        assert batch.mask is not None
        assert (batch.arrays["state"][~batch.mask] == 0).all()
    assert experts.episode(experts.episodes("train")[0]).source == "expert"
    with pytest.raises(LookupError):
        source.only(["nobody"]).batch((0,), 2, 2)
    source.close()


def test_context_reaches_before_the_episode(config: ReplayConfig, run: str) -> None:
    """Where there is nothing, there are zeros, also in memory that was used before; warm and cold."""
    fill(config, run)
    for source in (RedisSource(config, run, SPEC), RedisSource(replace(config, arena_bytes=0), run, SPEC)):
        for step in range(30):
            batch = source.batch((step,), 16, 6, context=5)
            assert batch.mask is not None
            for row, window in enumerate(batch.windows):
                steps = np.arange(window.start, window.start + 11)
                assert (batch.mask[row] == (steps >= 0)).all()
                expected = make_steps(STEPS, seed=window.key.episode)
                for name, array in batch.arrays.items():
                    assert (array[row][steps >= 0] == expected[name][steps[steps >= 0]]).all()
                    assert not array[row][steps < 0].any()
        source.close()


def test_priorities_reach_other_learners(config: ReplayConfig, run: str) -> None:
    """What one learner wants to see again, another draws more often after it has looked."""
    fill(config, run)
    config = replace(config, sampling=SamplingConfig(kind="prioritised", priority_exponent=1.0))
    one, other = RedisSource(config, run, SPEC), RedisSource(config, run, SPEC)
    assert one.batch((0,), 16, 8).weights is not None
    windows = RedisSource(replace(config, sampling=SamplingConfig()), run, SPEC).batch((0,), 500, 8).windows
    one.feedback(windows, np.array([1000.0 if w.key.episode == 3 else 0.01 for w in windows]))
    one.refresh()
    other.refresh()
    for source in (one, other, RedisSource(config, run, SPEC)):
        drawn = [w.key.episode for step in range(20) for w in source.batch((99, step), 16, 8).windows]
        assert drawn.count(3) > len(drawn) / 2
        source.close()


def test_two_processes_share_an_arena(config: ReplayConfig, run: str, redis_url: str) -> None:
    """What one has decoded, the other need not fetch; and so does one that comes after a kill -9."""
    fill(config, run)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_replay_away import *\n"
        "config = ReplayConfig(url=sys.argv[2], chunk_steps=8, valid_share=0.0, arena_dir=sys.argv[3],\n"
        "                      arena_bytes=2**22)\n"
        "source = RedisSource(config, sys.argv[4], SPEC)\n"
        "warm(source)\n"
        "print('warm', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), redis_url, config.arena_dir, run]
    client = redis.Redis.from_url(redis_url)

    def fetches() -> int:
        return int(client.info("commandstats").get("cmdstat_mget", {}).get("calls", 0))

    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "warm\n"
    for killed in (False, True):
        if killed:
            process.kill()
            process.communicate()
        source = RedisSource(config, run, SPEC)
        before = fetches()
        warm(source)
        for step in range(10):
            check(source.batch((step,), 8, 8))
        assert fetches() == before
        source.close()  # the first is not the last user; nobody is left to say goodbye for the killed one
    assert list(Path(config.arena_dir).rglob("*.arena*")) == []
