"""What a crew asks the replay for outlasts a short absence of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from distwm.config import load
from distwm.crew import Crew
from distwm.placement import Shares
from replay.errors import TryAgain
from replay.shards.server import EmbeddedRedis

SHARE = Shares(driver_cpus=0, learner_cpus=0, learner_gpus=0, runner_cpus=0)


def test_a_restart_of_redis_does_not_end_a_run(tmp_path: Path) -> None:
    first, second = (EmbeddedRedis(tmp_path / "replay", 2**26) for _ in range(2))
    url = first.start()
    crew = Crew(load("dreamer4", {"replay.url": url, "replay.outage_s": 20}), "r", tmp_path, SHARE)
    crew.check_replay(0)
    first.stop()
    back = threading.Timer(0.5, second.start)
    back.start()
    try:
        crew.check_replay(0)
        assert crew.recount_replay(0) == 0
    finally:
        back.join()
        second.stop()
    late = Crew(load("dreamer4", {"replay.url": url, "replay.outage_s": 0.2}), "r", tmp_path, SHARE)
    with pytest.raises(TryAgain, match="did not answer"):
        late.check_replay(0)


def test_a_loss_that_is_accepted_ends_no_run(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "replay", 2**26)
    settings = {"replay.url": server.start(), "replay.outage_s": 0.2}
    try:
        for count in (Crew.check_replay, Crew.recount_replay):
            assert (
                count(Crew(load("dreamer4", {**settings, "replay.on_loss": "continue"}), "r", tmp_path, SHARE), 9) == 0
            )
            with pytest.raises(TryAgain, match="counts 0 of the 9 steps"):
                count(Crew(load("dreamer4", settings), "r", tmp_path, SHARE), 9)
    finally:
        server.stop()
