"""Two learners on one machine, over gloo, act as one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from toy import SPEC, ToyConfig, source

from learners import checkpoint
from learners.group import LearnerGroup
from learners.learner import Learner, LearnerConfig
from replay.errors import BadInput, TrainingFailed, TryAgain


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    here = Path(__file__).parent
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": f"{here.parent.parent}:{here}"}},
    )
    yield
    ray.shutdown()


def group(config: ToyConfig, size: int = 2, **settings: object) -> LearnerGroup:
    return LearnerGroup(LearnerConfig(group=size, **settings), config, SPEC, source, 7, cpus=0.5)


def test_two_learners_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    config = ToyConfig(noise=0.0, rms=False)
    pair = group(config)
    pair.begin("fit", "fit", 30)
    pair.update(15)
    pair.save(tmp_path / "half")
    first, second = ray.get([actor.call.remote("weights") for actor in pair._actors], timeout=60)
    assert all(np.array_equal(first.arrays[n], second.arrays[n]) for n in first.arrays)

    alone = Learner(LearnerConfig(), ToyConfig(noise=0.0, rms=False, draws=2), SPEC, source, 7)
    alone.begin("fit", "fit", 30)
    figures = alone.update(15)
    mine = alone.weights()
    assert max(float(np.abs(mine.arrays[n] - first.arrays[n]).max()) for n in mine.arrays) < 1e-5

    together = pair.update(15)
    alone_after = alone.update(15)
    assert together["loss"] == pytest.approx(alone_after["loss"], abs=1e-5)
    assert together["loss"] < figures["loss"]

    pair.load(tmp_path / "half")  # back, and the same way again
    again = pair.update(15)
    assert again["loss"] == together["loss"]
    assert pair.gate()["training"] == 0
    pair.finish()
    assert pair.exhibits()["line"]["weight"].shape == (8, 5)
    assert ray.get(pair.weights(), timeout=60).version > first.version
    pair.close()


def test_resumed_pair_is_bit_equal_with_running_statistics(tmp_path: Path) -> None:
    pair = group(ToyConfig())
    pair.begin("fit", "fit", 20)
    pair.update(10)
    pair.save(tmp_path / "half")
    pair.update(10)
    pair.save(tmp_path / "whole")
    pair.load(tmp_path / "half")
    pair.update(10)
    pair.save(tmp_path / "resumed")
    pair.close()
    a, b = (checkpoint.load(tmp_path / name).tensors for name in ("whole", "resumed"))
    for part in ("system", "optimiser", "ema"):
        assert a[part].keys() == b[part].keys()
        assert all(torch.equal(x, b[part][name]) for name, x in a[part].items())


def test_expected_failures_come_through_as_they_are(tmp_path: Path) -> None:
    one = group(ToyConfig(nan_from=0.0, nan_until=1.0), size=1, max_skips=2)
    one.begin("fit", "fit", 10)
    with pytest.raises(TrainingFailed, match="3 times in a row") as caught:
        one.update(10)
    assert type(caught.value) is TrainingFailed
    other = group(ToyConfig(), size=1)
    with pytest.raises(BadInput, match="no complete checkpoint"):
        other.load(tmp_path)


def test_a_failing_rank_ends_the_group_at_once() -> None:
    pair = group(ToyConfig(fail_rank=1))
    pair.begin("fit", "fit", 10)
    with pytest.raises(LookupError, match="nothing to draw"):
        pair.update(10)  # rank 0 would wait for the gradients of rank 1 until its timeout


def test_a_dead_learner_is_told() -> None:
    one = group(ToyConfig(), size=1)
    one.begin("fit", "fit", 10)
    pid = ray.get(one._actors[0].__ray_call__.remote(lambda self: os.getpid()), timeout=60)
    os.kill(pid, 9)
    with pytest.raises(ray.exceptions.RayActorError):
        one.update(10)


def test_a_standstill_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learners.group.HEARTBEAT_S", 0.2)
    one = group(ToyConfig(gate_hangs=True), size=1)
    one.begin("fit", "fit", 10)  # with time to start: on a busy machine that takes longer than a standstill here
    one.config = replace(one.config, stall_timeout_s=3.0)
    with pytest.raises(TryAgain, match=r"progress for 3 s; they were at: gate of stage fit"):
        one.gate()


def test_a_cluster_that_is_full_is_told() -> None:
    with pytest.raises(TryAgain, match="99 CPUs"):
        LearnerGroup(LearnerConfig(), ToyConfig(), SPEC, source, 7, cpus=99, start_timeout_s=1)
