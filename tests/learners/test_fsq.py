"""Finite scalar quantisation: every code is reached, named and passed gradients through."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learners.nn.fsq import FSQ

GRIDS = [(5, 3), (8, 4), (8, 8), (8,), (3, 3, 3), (2,)]


@pytest.mark.parametrize("levels", GRIDS)
def test_all_codes_make_the_round_trip(levels: tuple[int, ...]) -> None:
    """Index -> code -> raw numbers that round to it -> code and index."""
    fsq = FSQ(levels)
    every = torch.arange(math.prod(levels))
    code = fsq.decode(every)
    assert code.shape == (len(levels), len(every))
    assert len({tuple(c) for c in code.T.tolist()}) == len(every)
    raw = torch.atanh((code * fsq.steps + fsq.offset) / fsq.reach) - fsq.shift
    found = fsq(raw)
    torch.testing.assert_close(found.code, code)
    assert found.indices.tolist() == fsq.index(code).tolist() == every.tolist()
    torch.testing.assert_close(fsq.codebook.T, code)


def test_the_papers_grid() -> None:
    """Levels [5, 3]: {-1, -1/2, 0, 1/2, 1} x {-1, 0, 1}, the first channel counting fastest."""
    book = FSQ((5, 3)).codebook
    assert book.tolist() == [[a, b] for b in (-1.0, 0.0, 1.0) for a in (-1.0, -0.5, 0.0, 0.5, 1.0)]


def test_a_codes_formula() -> None:
    """zb = tanh(z) (L - 1) 1.001 / 2, rounded and divided by L // 2."""
    z = torch.linspace(-4, 4, 101).expand(2, -1)
    found = FSQ((5, 3))(z).code
    expected = [torch.round(torch.tanh(z[0]) * (n - 1) * 1.001 / 2) / (n // 2) for n in (5, 3)]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("levels", GRIDS)
def test_gradients_pass_as_if_nothing_were_rounded(levels: tuple[int, ...]) -> None:
    fsq = FSQ(levels)
    z = torch.randn(len(levels), 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((fsq(z).code * weight).sum(), z)
    unrounded = (torch.tanh(z + fsq.shift) * fsq.reach - fsq.offset) / fsq.steps
    (expected,) = torch.autograd.grad((unrounded * weight).sum(), z)
    torch.testing.assert_close(found, expected)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2))
def test_whatever_comes_in_a_code_comes_out(z: list[float]) -> None:
    fsq = FSQ((5, 3))
    code, index = fsq(torch.tensor(z)[:, None])
    assert 0 <= int(index) < 15
    torch.testing.assert_close(fsq.codebook[int(index)], code[:, 0])
