"""Codebooks of several workers: with a process group as learners have it, and with nothing but statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import picking
import pytest
import ray
import torch
from rvq_kit import TwiceConfig, config
from torch import Tensor

from learners.group import LearnerGroup
from learners.learner import Learner, LearnerConfig
from learners.rvq.residual import ResidualVectorQuantizer
from learners.rvq.statistics import Statistics, merge
from learners.rvq.tokenizer import RVQTokenizer, TokenizerConfig
from learners.seeding import generator

SMALL = TokenizerConfig(num_layers=3, hidden_dim=16, num_embeddings=32, dropout=0.2, decay=0.8)
STEPS, WORKERS = 12, 3


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    tests = Path(__file__).parent.parent
    paths = f"{tests.parent}:{tests}:{tests / 'learners'}"
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


def start() -> ResidualVectorQuantizer:
    torch.manual_seed(0)
    rvq = ResidualVectorQuantizer(SMALL.residual)
    rvq.initialise(vectors(0, 0), generator((0,), torch.device("cpu")))
    return rvq.train()


def vectors(step: int, worker: int) -> Tensor:
    """(64, H): clusters that wander, so that codes follow, and some of them fall out of use."""
    draws = np.random.default_rng((step, worker))
    centre = draws.integers(0, 6, (64, 1)) + 0.4 * step
    return torch.from_numpy((centre + 0.3 * draws.normal(size=(64, SMALL.hidden_dim))).astype(np.float32))


@ray.remote
class Worker:
    """Counts what its own vectors take, and hears what all have counted."""

    def __init__(self, number: int) -> None:
        self.number, self.rvq = number, start()

    def count(self, step: int) -> list[Statistics]:
        return list(self.rvq(vectors(step, self.number)).statistics)

    def update(self, *counted: list[Statistics]) -> None:
        self.rvq.update(merge(counted))

    def state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy().copy() for name, tensor in self.rvq.state_dict().items()}


def test_workers_with_statistics_alone_are_one_process() -> None:
    workers = [Worker.options(num_cpus=0.5).remote(number) for number in range(WORKERS)]  # type: ignore[attr-defined]
    alone = start()
    for step in range(STEPS):
        counted = [worker.count.remote(step) for worker in workers]
        ray.get([worker.update.remote(*counted) for worker in workers], timeout=60)
        alone.update(alone(torch.cat([vectors(step, number) for number in range(WORKERS)])).statistics)
        states = ray.get([worker.state.remote() for worker in workers], timeout=60)
        for name, mine in alone.state_dict().items():
            assert all(np.array_equal(states[0][name], state[name]) for state in states)
            np.testing.assert_allclose(states[0][name], mine.numpy(), atol=1e-5, rtol=1e-5)


def test_two_learners_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    """Without dropout, whose draws are each learner's own."""
    settings = config(dropout=0.0)
    pair = LearnerGroup(LearnerConfig(group=2), settings, picking.SPEC, few, 7, cpus=0.5)
    pair.begin("fit", "rvq", 12)
    pair.update(4)
    pair.save(tmp_path / "early")
    first = pair.update(8)
    weights = ray.get([actor.call.remote("weights") for actor in pair._actors], timeout=60)
    assert all(np.array_equal(weights[0].arrays[n], weights[1].arrays[n]) for n in weights[0].arrays)
    assert pair.gate()["mse_l3"] < pair.gate()["mse_l1"]
    pair.load(tmp_path / "early")
    assert pair.update(8)["loss"] == first["loss"]
    pair.close()

    alone = Learner(LearnerConfig(), TwiceConfig(inner=settings), picking.SPEC, few, 7)
    alone.begin("fit", "rvq", 12)
    alone.update(12)
    arrays = alone.weights().arrays
    alone.close()
    for name, mine in arrays.items():
        np.testing.assert_allclose(weights[0].arrays[name], mine, atol=2e-4, err_msg=name)


def test_a_group_that_forgot_to_merge_would_differ() -> None:
    """The first learner's vectors alone give other codebooks than both."""
    both, one = start(), start()
    parts = [both(vectors(5, number)).statistics for number in range(2)]
    both.update(merge(parts))
    one.update(parts[0])
    assert float((both.quantizers[0].codebook - one.quantizers[0].codebook).abs().max()) > 1e-3


def few() -> object:
    return picking.source(12)


def test_tokenizers_that_are_trained_apart_from_ray_can_be_merged() -> None:
    """Statistics of a tokenizer's step are those of its quantizer, whatever computes them."""
    tokenizer = RVQTokenizer.of(SMALL)
    actions = torch.from_numpy(picking.actions(0)[:40].reshape(4, 10, 7))
    tokenizer.initialise(actions, 4, generator((0,), torch.device("cpu")))
    tokenizer.train()
    step = tokenizer.step(tokenizer.normalise(actions), generator((1,), torch.device("cpu")))
    assert float(step.statistics[0].counts.sum()) == 40
