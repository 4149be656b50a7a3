"""The ring cache gives what the full sequence gives, for as long as one likes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.nn.cache import Cache
from learners.nn.norm import RMSNorm
from learners.nn.transformer import Transformer, TransformerConfig, causal_window

CONTEXT = 5


def build(softcap: float, time_every: int = 2) -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        dim=32, layers=4, heads=4, kv_heads=2, time_every=time_every, context=CONTEXT, softcap=softcap
    )
    return Transformer(config).eval()


def frame_by_frame(model: Transformer, x: torch.Tensor, mask: torch.Tensor | None, drafts: int = 0) -> torch.Tensor:
    cache = model.cache(len(x), x.shape[2], x.device)
    out = []
    for t in range(x.shape[1]):
        for _ in range(drafts):  # drafts of the present must leave no trace
            model(torch.randn_like(x[:, [t]]), mask, cache)
        out.append(model(x[:, [t]], mask, cache))
        cache.advance()
    return torch.cat(out, dim=1)


@torch.no_grad()
@pytest.mark.parametrize("softcap", [0.0, 50.0])
@pytest.mark.parametrize("drafts", [0, 2])
def test_cached_equals_uncached_over_three_wraps(softcap: float, drafts: int) -> None:
    model = build(softcap)
    x = torch.randn(3, 3 * CONTEXT + 2, 6, 32)
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[:5, 5] = False
    assert (frame_by_frame(model, x, mask, drafts) - model(x, mask)).abs().max() < 1e-5


@torch.no_grad()
def test_a_restarted_row_forgets_and_the_others_do_not() -> None:
    model = build(0.0)
    x = torch.randn(2, 12, 4, 32)
    cache = model.cache(2, 4, x.device)
    out = []
    for t in range(12):
        cache.restart(torch.tensor([t == 7, False]))
        out.append(model(x[:, [t]], None, cache))
        cache.advance()
    got = torch.cat(out, dim=1)
    assert (got[1] - model(x[1:])[0]).abs().max() < 1e-5
    assert (got[0, :7] - model(x[:1, :7])[0]).abs().max() < 1e-5
    assert (got[0, 7:] - model(x[:1, 7:])[0]).abs().max() < 1e-5


@torch.no_grad()
def test_the_last_tokens_of_a_frame_can_be_left_out_of_a_draft() -> None:
    model = build(0.0)
    x = torch.randn(2, 9, 4, 32)
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[:3, 3] = False
    cache = model.cache(2, 4, x.device)
    for t in range(9):
        draft = model(x[:, [t], :3], None, cache)
        full = model(x[:, [t]], mask, cache)
        assert (draft - full[:, :, :3]).abs().max() < 1e-5
        cache.advance()


@torch.no_grad()
def test_no_frame_looks_ahead_or_beyond_its_context() -> None:
    model = build(0.0, time_every=4)  # one time layer, so the context is exact
    x = torch.randn(1, 12, 2, 32)
    y = x.clone()
    y[:, 6] += 1
    changed = (model(x) - model(y)).abs().amax((0, 2, 3)) > 1e-7
    assert changed.tolist() == [6 <= t < 6 + CONTEXT for t in range(12)]


def test_causal_window_by_hand() -> None:
    rows = ["1000", "1100", "0110", "0011"]
    assert causal_window(4, 2, torch.device("cpu")).tolist() == [[c == "1" for c in row] for row in rows]


@torch.no_grad()
def test_flex_attention_agrees_with_the_plain_soft_cap() -> None:
    from learners.nn.attention import _flex, attend

    q, k, v = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    assert torch.allclose(_flex(q, k, v, 5.0), attend(q, k, v, None, 5.0), atol=1e-5)
    assert torch.allclose(attend(q, k, v, None, 1e6), attend(q, k, v, None, 0.0), atol=1e-5)


@pytest.mark.parametrize("shape", [(8,), (5, 8), (2, 3, 4, 8)])
def test_own_gradients_of_the_norm_are_right(shape: tuple[int, ...]) -> None:
    """Against finite differences, and against torch's norm."""
    ours, theirs = RMSNorm(8), torch.nn.RMSNorm(8)
    x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    for norm in (ours, theirs):
        norm.double().load_state_dict({"weight": torch.rand(8, generator=torch.Generator().manual_seed(0))})
    assert torch.autograd.gradcheck(ours, x)
    assert torch.autograd.gradcheck(lambda w: torch.func.functional_call(ours, {"weight": w}, x), ours.weight)
    assert torch.allclose(ours(x), theirs(x))
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@torch.no_grad()
@given(st.lists(st.integers(1, 2), min_size=2, max_size=3), st.data())
@settings(deadline=None, max_examples=40)
def test_joined_rows_at_different_positions_are_as_if_alone(sizes: list[int], data: st.DataObject) -> None:
    """Batches go on in changing company, some of them further ahead than others, with restarts and drafts."""
    model = build(data.draw(st.sampled_from([0.0, 50.0]), label="softcap"))
    alone = [model.cache(size, 3, torch.device("cpu")) for size in sizes]
    apart = [model.cache(size, 3, torch.device("cpu")) for size in sizes]
    for step in range(data.draw(st.integers(1, 3 * CONTEXT), label="steps")):
        who = data.draw(st.lists(st.sampled_from(range(len(sizes))), min_size=1, unique=True), label=f"company {step}")
        rows = [sizes[n] for n in who]
        restart = torch.tensor(data.draw(st.lists(st.booleans(), min_size=sum(rows), max_size=sum(rows))))
        draft, x = torch.randn(2, sum(rows), 1, 3, 32)
        together = Cache.join([apart[n] for n in who])
        found = present(model, together, restart, draft, x)
        parts = zip(who, *(tensor.split(rows) for tensor in (restart, draft, x, found)), strict=True)
        for n, *given_n, found_n in parts:
            assert (present(model, alone[n], *given_n) - found_n).abs().max() < 1e-5
        for n, cache in zip(who, together.split(rows), strict=True):
            apart[n] = cache
            assert cache.position == alone[n].position
            assert cache.lag is None


def present(
    model: Transformer, cache: Cache, restart: torch.Tensor, draft: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """A draft of fewer tokens, and the frame itself."""
    cache.restart(restart)
    model(draft[:, :, :2], None, cache)
    out = model(x, None, cache)
    cache.advance()
    return out


def test_caches_that_are_level_pay_nothing_when_joined() -> None:
    model = build(0.0)
    caches = [model.cache(size, 2, torch.device("cpu")) for size in (1, 2)]
    for cache in caches:
        model(torch.randn(len(cache), 1, 2, 32), None, cache)
        cache.advance()
    joined = Cache.join(caches)
    assert (joined.position, joined.lag, len(joined)) == (1, None, 3)
    joined = Cache.join([*caches, model.cache(1, 2, torch.device("cpu"))])
    assert joined.lag is not None
    assert joined.lag.tolist() == [0, 0, 0, 1]
