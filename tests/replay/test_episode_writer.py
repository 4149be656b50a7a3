"""One episode a stream: stored once, whoever else tries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from replay.config import ReplayConfig
from replay.errors import TryAgain
from replay.schema import EpisodeSpec
from replay.shards.server import EmbeddedRedis
from replay.shards.stock import look_up, take_stock
from replay.shards.survey import Surveyor
from replay.writing.episode_writer import EpisodeWriter

SPEC = EpisodeSpec.build({"state": ((3,), "float32")}, action_dim=1)
STREAM, LENGTH = "random/7", 20


def record(t: int) -> Mapping[str, np.ndarray]:
    step = {f.name: np.zeros(f.shape, f.dtype) for f in SPEC.fields}
    last = np.array(t == LENGTH - 1)
    return step | {"is_first": np.array(t == 0), "is_last": last, "reward": np.array(t > 0, np.float32)}


def opened(config: ReplayConfig, run: str) -> EpisodeWriter:
    return EpisodeWriter(config, run, STREAM, SPEC)


def write(writer: EpisodeWriter, begin: int = 0, end: int = LENGTH) -> EpisodeWriter:
    for t in range(begin, end):
        writer.add(record(t), source="random", policy_version=0)
    return writer


def stored(config: ReplayConfig, run: str) -> tuple[dict[str, tuple[int, float]], list[str]]:
    """Steps and return of whole episodes by stream, and the streams that have several."""
    shard = Surveyor(config.url, run, 2.0, 2.0)
    found = take_stock([shard], {})
    assert look_up([shard], [STREAM]).keys() == found.whole.keys()
    assert take_stock([shard], dict.fromkeys(found.whole, LENGTH)).kept == found.whole.keys()
    shard.close()
    return {stream: (whole.steps, whole.total_reward) for stream, whole in found.whole.items()}, found.doubled


ONCE = ({STREAM: (LENGTH, LENGTH - 1.0)}, [])


def test_what_is_whole_is_not_written_again(config: ReplayConfig, run: str) -> None:
    assert stored(config, run) == ({}, [])
    write(opened(config, run)).close()
    with pytest.raises(TryAgain, match="is whole in the replay"):
        opened(config, run)
    assert stored(config, run) == ONCE


def test_what_was_broken_off_is_written_again(config: ReplayConfig, run: str) -> None:
    for end in (5, 8, 17):
        write(opened(config, run), end=end).close()
    assert stored(config, run) == ({}, [])
    write(opened(config, run)).close()
    assert stored(config, run) == ONCE


def test_an_attempt_may_follow_another_in_the_same_life(config: ReplayConfig, run: str) -> None:
    writer = write(opened(config, run), end=9)
    write(writer).close()
    assert stored(config, run) == ONCE


def test_the_newer_of_two_ends_it(config: ReplayConfig, run: str) -> None:
    old = write(opened(config, run), end=LENGTH - 1)
    new = write(opened(config, run), end=3)
    with pytest.raises(TryAgain, match="Somebody else"):
        write(old, LENGTH - 1)
    old.close()
    assert stored(config, run) == ({}, [])
    write(new, 3).close()
    assert stored(config, run) == ONCE


def test_what_a_dead_process_left_on_the_disk_counts(tmp_path: Path) -> None:
    """The server goes before the last chunk, and the writer's process after it."""
    server = EmbeddedRedis(tmp_path / "redis", 2**24)
    config = ReplayConfig(url=server.start(), chunk_steps=8, spool_dir=str(tmp_path / "spool"), connect_timeout_s=0.3)
    code = f"""
import sys, time
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from test_episode_writer import opened, write
from replay.config import ReplayConfig
config = ReplayConfig(url={config.url!r}, chunk_steps=8, spool_dir={config.spool_dir!r}, connect_timeout_s=0.3)
writer = opened(config, "run")
write(writer, end={LENGTH - 1})
writer.superseded = lambda: False  # it has just looked
print("go", flush=True)
sys.stdin.readline()
write(writer, {LENGTH - 1})
print("written", flush=True)
time.sleep(60)
"""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=tmp_path,
        text=True,
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "go\n"
        server.stop()
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "written\n"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    server = EmbeddedRedis(tmp_path / "redis", 2**24)
    config = replace(config, url=server.start())
    try:
        assert stored(config, "run") == ({}, [])
        with pytest.raises(TryAgain, match="is whole in the replay"):
            opened(config, "run")
        assert stored(config, "run") == ONCE
    finally:
        server.stop()
