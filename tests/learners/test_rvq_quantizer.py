"""Codebooks: what they start from, how they follow, what they code, and that nothing depends on how a batch is cut."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from learners.rvq.kmeans import kmeans, nearest
from learners.rvq.quantizer import QuantizerConfig, VectorQuantizer, perplexity, usage
from learners.rvq.residual import ResidualConfig, ResidualVectorQuantizer, depths
from learners.rvq.statistics import Statistics, first, merge
from replay.errors import BadInput


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quantizer(codes: int = 4, dim: int = 2, **settings: float) -> VectorQuantizer:
    return VectorQuantizer(QuantizerConfig(num_embeddings=codes, dim=dim, **settings))  # type: ignore[arg-type]


def residual(layers: int = 3, codes: int = 8, dim: int = 4, **settings: float) -> ResidualVectorQuantizer:
    torch.manual_seed(0)
    own = QuantizerConfig(num_embeddings=codes, dim=dim, **settings)  # type: ignore[arg-type]
    return ResidualVectorQuantizer(ResidualConfig(num_layers=layers, quantizer=own))


def statistics(counts: list[float], sums: list[list[float]], candidates: list[list[float]]) -> Statistics:
    ranks = torch.linspace(0, 0.5, len(candidates)) if candidates else torch.zeros(0)
    return Statistics(
        counts=torch.tensor(counts),
        sums=torch.tensor(sums),
        ranks=ranks,
        candidates=torch.tensor(candidates).view(-1, 2),
    )


def test_averages_follow_the_table() -> None:
    """Two codes, three vectors, decay 3/4: share' = 3/4 share + 1/4 n/3, total' = 3/4 total + 1/4 s/3."""
    vq = quantizer(2, 2, decay=0.75, dead_share=0.0)
    vq.assign(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    vq.update(statistics([1, 2], [[0.3, 0.0], [1.8, 2.4]], []))
    torch.testing.assert_close(vq.shares, torch.tensor([0.375 + 1 / 12, 0.375 + 1 / 6]))
    totals = torch.tensor([[0.025, 0.0], [0.375 + 0.15, 0.375 + 0.2]])
    torch.testing.assert_close(vq.totals, totals)
    torch.testing.assert_close(vq.codebook, totals / torch.tensor([[11 / 24], [13 / 24]]))
    assert int(vq.updates) == 1


def test_a_code_without_vectors_stays_where_it_is() -> None:
    vq = quantizer(2, 2, decay=0.5, dead_share=0.0)
    vq.assign(torch.tensor([[5.0, 5.0], [1.0, 1.0]]))
    for _ in range(40):  # until its share has all but vanished
        vq.update(statistics([0, 4], [[0, 0], [4.0, 8.0]], []))
    torch.testing.assert_close(vq.codebook, torch.tensor([[5.0, 5.0], [1.0, 2.0]]))
    vq.update(statistics([0, 0], [[0, 0], [0, 0]], []))  # no batch at all
    torch.testing.assert_close(vq.codebook, torch.tensor([[5.0, 5.0], [1.0, 2.0]]))


def test_codes_out_of_use_move_to_candidates_in_order() -> None:
    vq = quantizer(4, 2, dead_share=0.5, candidates=2)
    vq.assign(torch.arange(8.0).view(4, 2), torch.tensor([0.02, 0.48, 0.01, 0.49]))
    vq.update(statistics([0, 1, 0, 1], [[0, 0], [2, 3], [0, 0], [6, 7]], [[7.0, 8.0], [9.0, 9.0]]))
    assert vq.codebook[0].tolist() == [7, 8]
    assert vq.codebook[2].tolist() == [9, 9]
    torch.testing.assert_close(vq.codebook[[1, 3]], torch.tensor([[2.0, 3.0], [6.0, 7.0]]))
    torch.testing.assert_close(vq.totals, vq.codebook * vq.shares[:, None])
    assert float(vq.shares[0]) == pytest.approx(0.25, abs=0.01)


def test_restarts_bring_codes_into_use() -> None:
    """All codes begin in one place far off; the data lie in sixteen. Some of these share a code in the end."""
    torch.manual_seed(0)
    vq = quantizer(16, 2, decay=0.9, candidates=4)
    vq.assign(torch.full((16, 2), 9.0) + torch.randn(16, 2) * 0.01)
    vq.train()
    corners = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    for seed in range(60):
        x = corners[torch.randint(16, (256,), generator=seeded(seed))] + 0.02 * torch.randn(256, 2)
        vq.update(vq(x).statistics[0])
    codes = vq(corners).codes
    assert usage(codes, 16) > 0.6
    assert float((vq.look_up(codes) - corners).square().sum(1).mean()) < 0.6


def test_gradients_pass_straight_through() -> None:
    vq = quantizer()
    x = torch.randn(5, 3, 2, requires_grad=True)
    weight = torch.randn(5, 3, 2)
    found = vq(x)
    (found.vectors * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight)
    torch.testing.assert_close(found.vectors, vq.look_up(found.codes))
    assert not any(p.requires_grad for p in vq.parameters())


def test_commitment_of_one_layer_is_the_squared_distance() -> None:
    vq = quantizer()
    x = torch.randn(6, 2, requires_grad=True)
    found = vq(x)
    found.commitment.backward()
    code = vq.look_up(found.codes)
    assert float(found.commitment.detach()) == pytest.approx(float((x - code).detach().square().mean()))
    torch.testing.assert_close(x.grad, 2 * (x - code).detach() / x.numel())


def test_commitment_of_layers_is_that_of_every_prefix() -> None:
    rvq = residual()
    x = torch.randn(7, 4, requires_grad=True)
    depth = torch.tensor([1, 2, 3, 3, 1, 2, 3])
    found = rvq(x, depth)
    found.commitment.backward()
    other = x.detach().clone().requires_grad_(True)
    expected = torch.zeros(())
    for layer in range(3):
        left = (other - rvq.decode(found.codes, layer + 1)) * (depth > layer)[:, None]
        expected = expected + left.square().mean() / 3
    expected.backward()
    torch.testing.assert_close(found.commitment, expected)
    torch.testing.assert_close(x.grad, other.grad)
    truncated = torch.stack([rvq.decode(found.codes[n : n + 1], int(d))[0] for n, d in enumerate(depth)])
    torch.testing.assert_close(found.vectors.detach(), truncated)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_prefixes_are_sums_of_their_codes(rows: int, layers: int, seed: int) -> None:
    rvq = residual(layers=layers)
    x = torch.randn(rows, 4, generator=seeded(seed))
    codes = rvq.encode(x)
    assert codes.dtype == torch.int64
    assert codes.shape == (rows, layers)
    total = torch.zeros(rows, 4)
    for number, layer in enumerate(rvq.quantizers, 1):
        left = x - total
        assert torch.equal(codes[:, number - 1], torch.cdist(left, layer.codebook).argmin(1))
        total = total + layer.codebook[codes[:, number - 1]]
        torch.testing.assert_close(rvq.decode(codes, number), total)
        torch.testing.assert_close(rvq.decode(codes[:, :number]), total)
        assert torch.equal(rvq.encode(x, number), codes[:, :number])
    rvq.eval()
    torch.testing.assert_close(rvq(x).vectors, total)


def test_there_are_only_so_many_layers() -> None:
    rvq = residual()
    for number in (0, 4):
        with pytest.raises(BadInput, match="1 to 3"):
            rvq.encode(torch.zeros(1, 4), number)
    for wrong in ({"num_layers": 0}, {"dropout": 1.5}):
        with pytest.raises(BadInput):
            ResidualConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput):
        QuantizerConfig(decay=1.0)


def test_dropout_truncates_as_often_as_it_says() -> None:
    found = depths(40_000, 8, 0.3, seeded(0))
    assert found is not None
    shares = torch.bincount(found, minlength=9) / len(found)
    expected = torch.tensor([0.0, *[0.3 / 8] * 7, 0.7 + 0.3 / 8])
    assert float((shares - expected).abs().max()) < 4 * math.sqrt(0.04 / 40_000)
    assert torch.equal(found, depths(40_000, 8, 0.3, seeded(0)))  # type: ignore[arg-type]
    assert depths(10, 8, 0.0, seeded(0)) is None
    all_cut = depths(1000, 8, 1.0, seeded(0))
    assert all_cut is not None
    assert torch.bincount(all_cut, minlength=9)[1:].min() > 80


def test_truncated_vectors_are_not_counted_below() -> None:
    rvq = residual()
    for layer in rvq.quantizers:
        layer.shares[0] = 0.0
    x, depth = torch.randn(20, 4), torch.tensor([1] * 5 + [2] * 7 + [3] * 8)
    found = rvq(x, depth)
    assert [float(layer.counts.sum()) for layer in found.statistics] == [20, 15, 8]
    shallow = {tuple(row.tolist()) for row in x[:5]}
    for layer in found.statistics[1:]:
        assert layer.ranks.isfinite().sum() >= 8
        assert not shallow & {tuple(row.tolist()) for row in layer.candidates}


def test_there_are_candidates_only_for_codes_out_of_use() -> None:
    vq = quantizer()
    assert vq(torch.randn(20, 2)).statistics[0].ranks.isinf().all()
    vq.shares[1] = 0.0
    assert vq(torch.randn(20, 2)).statistics[0].ranks.isfinite().sum() == 16


def test_codes_that_were_moved_by_any_means_are_found() -> None:
    """What is kept of them follows updates, assignments, loaded states and moved storage."""
    vq, x = quantizer(), torch.randn(50, 2, generator=seeded(4))
    for move in (
        lambda: vq.assign(torch.randn(4, 2, generator=seeded(1))),
        lambda: vq.update(vq(x).statistics[0]),
        lambda: vq.load_state_dict(quantizer().state_dict()),
        lambda: vq.double().float(),
    ):
        vq.nearest(x)
        move()
        assert torch.equal(vq.nearest(x), torch.cdist(x, vq.codebook).argmin(1))


def test_kmeans_finds_what_is_there() -> None:
    centres = torch.randn(12, 3, generator=seeded(1)) * 10
    x = centres.repeat(20, 1) + 0.01 * torch.randn(240, 3, generator=seeded(2))
    found = kmeans(x, 12, seeded(0))
    assert float(torch.cdist(centres, found.centres).min(1).values.max()) < 0.05
    torch.testing.assert_close(found.shares, torch.full((12,), 1 / 12))
    again = kmeans(x, 12, seeded(0))
    assert torch.equal(found.centres, again.centres)
    index = nearest(x, found.centres)
    for code in range(12):
        torch.testing.assert_close(found.centres[code], x[index == code].mean(0))


@pytest.mark.parametrize("rows", [1, 3])
def test_kmeans_of_few_points_has_them_all(rows: int) -> None:
    x = torch.randn(rows, 2, generator=seeded(3))
    found = kmeans(x, 8, seeded(0))
    assert float(torch.cdist(x, found.centres).min(1).values.max()) < 1e-6
    assert float(found.shares.sum()) == pytest.approx(1)
    with pytest.raises(ValueError, match="no points"):
        kmeans(x[:0], 8, seeded(0))


def test_layers_begin_with_what_the_last_ones_left() -> None:
    rvq = residual(codes=32)
    x = torch.randn(2000, 4, generator=seeded(5))
    assert not rvq.ready
    rvq.initialise(x, seeded(0))
    assert rvq.ready
    codes = rvq.encode(x)
    errors = [float((rvq.decode(codes, n) - x).square().mean()) for n in (1, 2, 3)]
    assert errors[0] < 0.35
    assert errors[1] < 0.4 * errors[0]
    assert errors[2] < 0.4 * errors[1]
    assert usage(codes[:, 2], 32) > 0.9
    assert perplexity(codes[:, 0], 32) > 20


def test_usage_and_perplexity() -> None:
    codes = torch.tensor([[0, 0], [1, 1]])
    assert usage(codes, 4) == 0.5
    assert perplexity(codes, 4) == pytest.approx(2)
    assert perplexity(torch.arange(16), 16) == pytest.approx(16)
    assert perplexity(torch.zeros(5, dtype=torch.int64), 16) == pytest.approx(1)


@given(st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_statistics_add_up_however_a_batch_is_cut(parts: int, seed: int) -> None:
    rvq, draws = residual(candidates=5), seeded(seed)
    for layer in rvq.quantizers:
        layer.shares[0] = 0.0  # a code out of use, so that there are candidates
    x, depth = torch.randn(120, 4, generator=draws), torch.randint(1, 4, (120,), generator=draws)
    whole = rvq(x, depth).statistics
    cuts = torch.randint(0, 121, (parts - 1,), generator=draws).sort().values.tolist()
    pieces = [rvq(x[a:b], depth[a:b]).statistics for a, b in zip([0, *cuts], [*cuts, 120], strict=True)]
    assert_same(merge(pieces), whole)
    assert_same(merge(pieces[::-1]), whole)


def assert_same(found: list[Statistics], expected: list[Statistics]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.counts, other.counts)
        torch.testing.assert_close(one.sums, other.sums, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.candidates, other.candidates, atol=1e-5, rtol=1e-5)


def test_candidates_are_different_vectors_of_low_rank() -> None:
    x: Tensor = torch.tensor([[1.0], [2.0], [1.0], [3.0]])
    ranks, found = first(torch.tensor([0.5, 0.2, 0.5, torch.inf]), x, 3)
    assert found[:, 0].tolist() == [2, 1, 0]
    assert ranks.tolist() == [pytest.approx(0.2), 0.5, torch.inf]


def test_indices_are_those_of_the_library() -> None:
    """vector-quantize-pytorch, given the same codebooks."""
    library = pytest.importorskip("vector_quantize_pytorch", reason="pip install 'distwm[bench]' compares with it")
    rvq = residual(layers=4, codes=32).eval()
    x = torch.randn(500, 4, generator=seeded(8))
    rvq.initialise(x, seeded(0))
    theirs = library.ResidualVQ(dim=4, num_quantizers=4, codebook_size=32).eval()
    for own, other in zip(rvq.quantizers, theirs.layers, strict=True):
        other._codebook.embed.copy_(own.codebook[None])
    fresh = torch.randn(300, 4, generator=seeded(9))
    found, indices, _ = theirs(fresh[None])
    assert torch.equal(rvq.encode(fresh), indices[0])
    torch.testing.assert_close(rvq.decode(rvq.encode(fresh)), found[0], atol=1e-5, rtol=1e-5)
