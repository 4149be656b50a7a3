"""Joined batches draw bit by bit what their parts would have drawn alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from learners.draws import Draws, categorical, randn_like

SHAPES = st.lists(st.integers(0, 20), max_size=3)
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=4)
KINDS = st.sampled_from(("normal", "uniform", "categorical"))


def draw(draws: Draws, kind: str, shape: list[int]) -> Tensor:
    if kind == "categorical":
        return draws.categorical(torch.full((len(draws), *shape, 3), 1 / 3))
    return getattr(draws, kind)(*shape)


@given(SIZES, st.lists(st.tuples(KINDS, SHAPES), max_size=6), st.data())
@settings(deadline=None, max_examples=60)
def test_joined_draws_equal_the_parts_draws_bit_by_bit(
    sizes: list[int], calls: list[tuple[str, list[int]]], data: st.DataObject
) -> None:
    """Whoever is together at each call: all batches, or any grouping of neighbours."""
    alone = [Draws.start(size, seed) for seed, size in enumerate(sizes)]
    together = [Draws.start(size, seed) for seed, size in enumerate(sizes)]
    for kind, shape in calls:
        expected = torch.cat([draw(one, kind, shape) for one in alone])
        cut = data.draw(st.integers(0, len(sizes)), label="cut")
        found = []
        for group in (slice(None, cut), slice(cut, None)):
            if not together[group]:
                continue
            joined = Draws.join(together[group])
            found.append(draw(joined, kind, shape))
            together[group] = joined.split(sizes[group])
        assert torch.equal(torch.cat(found), expected)


def test_one_batch_draws_what_its_generator_alone_would() -> None:
    draws, generator = Draws.start(3, seed=5), torch.Generator().manual_seed(5)
    probs = torch.rand(3, 2, 7).softmax(-1)
    assert torch.equal(draws.normal(4), torch.randn(3, 4, generator=generator))
    assert torch.equal(categorical(probs, draws), categorical(probs, generator))
    assert torch.equal(draws.uniform(), torch.rand(3, generator=generator))
    like = torch.empty(3, 2, dtype=torch.float64)
    assert torch.equal(randn_like(like, draws), randn_like(like, generator))


def test_rows_that_were_started_together_stay_together() -> None:
    joined = Draws.join([Draws.start(2, 0), Draws.start(3, 1), Draws.start(1, 2)])
    assert len(joined) == 6
    assert [len(one) for one in joined.split([5, 1])] == [5, 1]
    for sizes in ([1, 5], [5], [5, 1, 1], [6, 0, 1]):
        with pytest.raises(ValueError, match="do not split"):
            joined.split(sizes)


def test_the_shares_of_a_categorical_are_its_probabilities() -> None:
    probs = torch.tensor([0.1, 0.2, 0.7])
    drawn = Draws.start(20_000, seed=0).categorical(probs.expand(20_000, 3))
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    assert torch.allclose(shares, probs, atol=0.02)
