"""What the learner is made of: the prefetcher, trees of tensors, seeds, means."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from learners.device import map_tensors, pick_device
from learners.meter import Meter
from learners.prefetch import Prefetcher
from learners.seeding import generator, seeded
from replay.errors import Missing, TryAgain


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_batches_come_in_order_from_one_thread(depth: int) -> None:
    made: list[int] = []
    threads: set[int] = set()

    def make(step: int) -> int:
        made.append(step)
        threads.add(threading.get_ident())
        return step * step

    batches = Prefetcher(make, 3, 9, depth, timeout_s=10)
    got = []
    for _ in range(3):
        got.append(batches.next()[0])
        batches.rest()
        assert len(made) == min(6, len(got) + depth)
    got += [batches.next()[0] for _ in range(3)]
    batches.close()
    assert got == [9, 16, 25, 36, 49, 64]
    assert made == list(range(3, 9))
    assert len(threads) == 1


def test_errors_of_the_maker_arrive() -> None:
    def make(step: int) -> int:
        raise LookupError(f"step {step}")

    batches = Prefetcher(make, 0, 5, 2, timeout_s=10)
    with pytest.raises(LookupError, match="step 0"):
        batches.next()
    batches.close()


def test_a_slow_maker_is_told() -> None:
    batches = Prefetcher(lambda step: time.sleep(0.5), 0, 5, 2, timeout_s=0.05)
    for wait in (batches.next, batches.rest, batches.close):
        with pytest.raises(TryAgain, match="within"):
            wait()


class Pair(NamedTuple):
    x: Tensor
    progress: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    pair: Pair
    more: dict[str, Any]
    nothing: None = None


def test_trees_keep_their_shape() -> None:
    tree = Record(pair=Pair(torch.ones(2), 0.5), more={"a": [torch.zeros(1)], "b": (1, torch.ones(1))})
    doubled = map_tensors(tree, lambda x: 2 * x)
    assert isinstance(doubled, Record)
    assert isinstance(doubled.pair, Pair)
    assert torch.equal(doubled.pair.x, torch.full((2,), 2.0))
    assert doubled.pair.progress == 0.5
    assert doubled.more["b"][0] == 1
    assert float(doubled.more["b"][1]) == 2
    assert doubled.nothing is None


def test_seeds_leave_no_trace() -> None:
    device = torch.device("cpu")
    a, b, c = (torch.rand(4, generator=generator((1, 2, key), device)) for key in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    before = torch.get_rng_state()
    with seeded(1):
        first = torch.rand(2)
    with seeded(1):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_means_are_over_the_updates_that_had_the_metric() -> None:
    meter = Meter()
    meter.add({"a": torch.tensor(1.0), "b": torch.tensor(4.0)})
    meter.add({"a": torch.tensor(2.0), "b": torch.tensor(float("nan"))})
    assert meter.means() == {"a": 1.5, "b": 4.0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    assert pick_device("auto").type == "cpu"
    with pytest.raises(Missing, match=r"learner\.device=cpu"):
        pick_device("cuda")
