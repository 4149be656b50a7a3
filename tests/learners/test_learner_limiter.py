"""A learner trains as much as its actors allow, says what it waits for, and counts on from its checkpoint."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from toy import SPEC, ToyConfig, source

from learners.learner import Learner, LearnerConfig
from replay.config import LimiterConfig, ReplayConfig
from replay.errors import TryAgain
from replay.schema import ChunkId, Entry
from replay.shards.server import EmbeddedRedis
from replay.shards.shard import Shard
from replay.sources.limited import LimitedSource

STEPS = 64  # of a batch


@pytest.fixture
def config(tmp_path: Path) -> Iterator[ReplayConfig]:
    server = EmbeddedRedis(tmp_path / "replay", 2**26, durability="none")
    limiter = LimiterConfig(samples_per_insert=4, min_steps=16, slack_steps=256, stall_s=0.5)
    yield ReplayConfig(url=server.start(), chunk_steps=16, limiter=limiter)
    server.stop()


def learner_of(config: ReplayConfig) -> Learner:
    make = partial(LimitedSource, source(), config, "r")
    return Learner(LearnerConfig(), ToyConfig(), SPEC, make, seed=7)


def insert(shard: Shard, seq: int, steps: int) -> None:
    entry = Entry(
        id=ChunkId("s", 1, seq), episode=0, first_step=0, steps=steps, source="", policy_version=0, checksum=0
    )
    shard.commit(entry, b"", 2**20)


def test_it_trains_as_much_as_its_actors_allow(config: ReplayConfig, tmp_path: Path) -> None:
    shard = Shard(config.url, "r", 5, 5)
    insert(shard, 0, 16)
    learner = learner_of(config)
    learner.begin("fit", "fit", 100)
    learner.update(3)
    learner.save(tmp_path / "saved")
    assert shard.sampled() == {"learner0of1": 3 * STEPS}, "those made ahead do not count"
    learner.update(1)
    learner.gate()
    with pytest.raises(TryAgain, match=r"held the learner for .* actors are behind: 256 steps sampled, 16 inserted"):
        learner.update(1)
    assert learner.doing.startswith("update 4 of 100 of stage fit, waits for the limiter: actors are behind")
    learner.close()

    again = learner_of(config)
    again.load(tmp_path / "saved")
    assert shard.sampled() == {"learner0of1": 3 * STEPS}
    again.update(1)
    insert(shard, 1, 16)
    again.update(1)
    again.finish()
    assert shard.sampled() == {"learner0of1": 5 * STEPS}
    again.begin("more", "fit", 100)
    assert shard.sampled() == {"learner0of1": 5 * STEPS}
    again.close()


def test_it_waits_for_the_first_steps(config: ReplayConfig) -> None:
    learner = learner_of(config)
    shard = Shard(config.url, "r", 5, 5)
    late = threading.Timer(0.2, lambda: insert(shard, 0, 16))
    late.start()
    begun_s = time.monotonic()
    learner.begin("fit", "fit", 2)
    assert time.monotonic() - begun_s > 0.15
    learner.update(2)
    learner.close()
    late.join()
