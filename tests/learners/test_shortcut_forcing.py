"""Shortcut forcing against its equations: the grid, the identity of the bootstrap loss, the ramp, the gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.dreamer4.dynamics import Dynamics, DynamicsNetConfig, Noise
from learners.dreamer4.shortcut import (
    Conditions,
    Draw,
    bootstrap_target,
    commit,
    draw,
    generate,
    in_context,
    shortcut_loss,
)
from learners.maths import ramp
from learners.nn.transformer import TransformerConfig

B, T, L, Z, A, K_MAX = 3, 6, 4, 2, 2, 8


def build(k_max: int = K_MAX) -> Dynamics:
    torch.manual_seed(0)
    net = TransformerConfig(dim=32, layers=4, heads=2, kv_heads=1, time_every=2, context=4)
    return Dynamics(DynamicsNetConfig(transformer=net, registers=2, packing=2, k_max=k_max), L, Z, A)


def batch() -> tuple[torch.Tensor, Conditions]:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(B, T, L, Z, generator=generator)
    labelled = torch.ones(B, T, dtype=torch.bool)
    labelled[:, 0] = False
    return z, Conditions(torch.rand(B, T, A, generator=generator), labelled)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 6), st.floats(0, 1), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_levels_and_steps_lie_on_the_grid(finest: int, share: float, seed: int) -> None:
    drawn = draw((16, 8), finest, share, seeded(seed))
    level, step = drawn.noise
    assert ((step >= 0) & (step <= finest)).all()
    assert (level % 2 ** (finest - step) == 0).all()  # tau is a multiple of d
    assert ((level >= 0) & (level < 2**finest)).all()  # and below 1
    assert torch.equal(drawn.flow, step == finest)


def test_without_bootstrap_every_frame_has_the_finest_step_and_every_level_is_drawn() -> None:
    drawn = draw((256, 16), 3, 0.0, seeded())
    assert drawn.flow.all()
    assert drawn.noise.level.flatten().bincount(minlength=8).min() > 400  # of 512 each


def test_bootstrap_rows_draw_every_coarse_step() -> None:
    drawn = draw((512, 8), 3, 1.0, seeded())
    assert not drawn.flow.any()
    assert set(drawn.noise.step.unique().tolist()) == {0, 1, 2}


def test_context_frames_carry_the_context_label_and_the_flow_loss() -> None:
    model = build()
    drawn = in_context(draw((64, 8), 3, 1.0, seeded()), model, share=1.0, keep=1.0, generator=seeded(1))
    assert model.context_level == 7  # 0.9 of 8 levels, rounded down to the grid
    assert (drawn.noise.level == 7).all()
    assert (drawn.noise.step == 3).all()
    assert drawn.flow.all()


def test_the_context_is_noised_by_what_its_label_says() -> None:
    model = build(k_max=64)
    z = torch.zeros(1, 2000, L, Z)
    label = model.context_noise(z)
    noised = model.noised(z, label.level, seeded())
    assert model.context_level == 57
    assert abs(float(noised.std()) - (1 - 57 / 64)) < 0.005


def test_bootstrap_loss_is_the_papers_velocity_loss() -> None:
    """(1 - tau)^2 || (z_hat - z~) / (1 - tau) - (b' + b'') / 2 ||^2, computed literally, frame by frame."""
    model = build()
    z, conditions = batch()
    drawn = draw((B, T), 3, 1.0, seeded(2))
    z_noised = model.noised(z, drawn.noise.level, seeded(3))
    tau = (drawn.noise.level / K_MAX)[..., None, None]
    d = (0.5**drawn.noise.step)[..., None, None]

    def f(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return model(x, Noise(level, drawn.noise.step + 1), *conditions, task=None).z

    with torch.no_grad():
        b1 = (f(z_noised, drawn.noise.level) - z_noised) / (1 - tau)
        middle = z_noised + b1 * d / 2
        half_level = (K_MAX * d / 2)[..., 0, 0].long()
        b2 = (f(middle, drawn.noise.level + half_level) - middle) / (1 - tau - d / 2)
        z_hat = model(z_noised, drawn.noise, *conditions, task=None).z
        literal = (1 - tau) ** 2 * ((z_hat - z_noised) / (1 - tau) - (b1 + b2) / 2) ** 2
        ours = (z_hat - bootstrap_target(model, z_noised, drawn, conditions)) ** 2
    assert torch.allclose(literal, ours, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_ramp_weighs_both_terms(share: float) -> None:
    model = build()
    z, conditions = batch()
    drawn = draw((B, T), 3, share, seeded(4))
    loss, _ = shortcut_loss(model, z, drawn, conditions, 0.1, seeded(5))
    z_noised = model.noised(z, drawn.noise.level, seeded(5))
    target = bootstrap_target(model, z_noised, drawn, conditions) if share else z
    error = (model(z_noised, drawn.noise, *conditions, task=None).z - target).square().mean((-1, -2))
    assert torch.allclose(loss, (ramp(drawn.noise.level / K_MAX) * error).mean(), atol=1e-6)


def test_ramp_by_hand() -> None:
    assert torch.allclose(ramp(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0.1, 0.55, 1.0]))


def test_no_gradient_flows_into_the_bootstrap_target() -> None:
    model = build()
    z, conditions = batch()
    drawn = draw((B, T), 3, 1.0, seeded(6))
    assert not bootstrap_target(model, z, drawn, conditions).requires_grad
    loss, _ = shortcut_loss(model, z, drawn, conditions, 0.1, seeded(7))
    loss.backward()
    got = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    z_noised = model.noised(z, drawn.noise.level, seeded(7))
    target = bootstrap_target(model, z_noised, drawn, conditions)
    error = (model(z_noised, drawn.noise, *conditions, task=None).z - target).square().mean((-1, -2))
    (ramp(drawn.noise.level / K_MAX) * error).mean().backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            assert torch.allclose(got[name], p.grad, atol=1e-6), name


def test_mixed_rows_keep_their_own_targets() -> None:
    model = build()
    z, conditions = batch()
    pure = draw((B, T), 3, 0.0, seeded(8))
    coarse = draw((B, T), 3, 1.0, seeded(9))
    rows = torch.tensor([True, False, True])[:, None]
    mixed = Draw(
        Noise(*(torch.where(rows, c, p) for c, p in zip(coarse.noise, pure.noise, strict=True))),
        torch.where(rows, coarse.flow, pure.flow),
    )
    target = bootstrap_target(model, z, mixed, conditions)
    alone = bootstrap_target(
        model,
        z[:1],
        Draw(Noise(*(x[:1] for x in mixed.noise)), mixed.flow[:1]),
        Conditions(*(x[:1] for x in conditions)),
    )
    assert torch.allclose(target[:1], alone, atol=1e-5)


@torch.no_grad()
def test_sampling_of_a_perfect_model_lands_on_the_data_in_any_number_of_steps() -> None:
    model = build()
    z, conditions = batch()
    now = Conditions(*(x[:, :1] for x in conditions))
    model.forward = lambda *args, **kwargs: type("P", (), {"z": z[:, :1]})  # type: ignore[method-assign]
    for steps in (1, 2, 4, 8):
        out = generate(model, model.cache(B, z.device), (B, 1, L, Z), now, steps, seeded())
        assert torch.allclose(out, z[:, :1], atol=1e-6)


@torch.no_grad()
def test_cached_rollout_equals_the_uncached_one() -> None:
    """Context level noise, K = 4 sampling and the commit, over three wraps of the cache, against full sequences."""
    model = build().eval()
    length = 3 * 4 + 2
    action = torch.rand(1, length, A)
    labelled = torch.ones(1, length, dtype=torch.bool)
    task = torch.zeros(1, dtype=torch.long)

    cache, cached, hidden = model.cache(1, action.device), [], []
    for t in range(length):
        now = Conditions(action[:, [t]], labelled[:, [t]])
        z = generate(model, cache, (1, 1, L, Z), now, 4, seeded(t))
        hidden.append(commit(model, cache, z, now, task, seeded(100 + t)).h)
        cached.append(z)

    past: list[torch.Tensor] = []  # committed frames, as they were noised
    for t in range(length):
        z = torch.randn(1, 1, L, Z, generator=seeded(t))
        for i in range(4):
            z_hat = full(model, past, z, (i * K_MAX // 4, 2), action, None)[0]
            z = torch.lerp(z, z_hat, 1 / (4 - i))
        assert (z - cached[t]).abs().max() < 1e-5
        past.append(model.noised(z, model.context_noise(z).level, seeded(100 + t)))
        h = full(model, past[:-1], past[-1], (model.context_level, model.finest), action, task)[1]
        assert (h - hidden[t]).abs().max() < 1e-5


def full(
    model: Dynamics,
    past: list[torch.Tensor],
    now: torch.Tensor,
    label: tuple[int, int],
    action: torch.Tensor,
    task: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One uncached pass over the whole past and the present frame; returns the present's z and h."""
    z = torch.cat((*past, now), dim=1)
    length = z.shape[1]
    noise = model.context_noise(z)
    noise.level[:, -1], noise.step[:, -1] = label
    out = model(z, noise, action[:, :length], torch.ones(1, length, dtype=torch.bool), task)
    return out.z[:, -1:], None if out.h is None else out.h[:, -1:]
