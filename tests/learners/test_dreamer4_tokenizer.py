"""The tokenizer: who sees whom, causality, coding frame by frame, masking, shifting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.dreamer4.tokenizer import Tokenizer, TokenizerNetConfig, random_crop, random_mask
from learners.nn.transformer import TransformerConfig

B, T, HEIGHT, WIDTH, L, Z, CONTEXT = 2, 9, 8, 12, 3, 4, 3
PATCHES = (HEIGHT // 4) * (WIDTH // 4)


def build(time_every: int = 2, standardise: str = "pixel") -> Tokenizer:
    torch.manual_seed(0)
    net = TransformerConfig(dim=32, layers=4, heads=4, kv_heads=2, time_every=time_every, context=CONTEXT)
    config = TokenizerNetConfig(patch=4, latents=L, channels=Z, standardise=standardise, encoder=net, decoder=net)
    return Tokenizer(config, (HEIGHT, WIDTH, 3)).eval()


def video(batch: int = B, length: int = T) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, length, HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def test_shapes_and_bounds() -> None:
    model = build()
    z = model.encode(video())
    image = model.decode(z)
    assert z.shape == (B, T, L, Z)
    assert z.abs().max() < 1  # tanh
    assert image.shape == (B, T, HEIGHT, WIDTH, 3)
    assert image.min() >= 0
    assert image.max() <= 1


def test_the_bottleneck_is_a_tanh() -> None:
    """However large what comes before it, latents stay bounded."""
    model = build()
    with torch.no_grad():
        model.bottleneck.weight.mul_(1e3)
    assert model.encode(video()).abs().max() <= 1


def test_an_image_must_divide_into_patches() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        Tokenizer(TokenizerNetConfig(patch=5), (8, 10, 3))


def test_patches_cannot_see_latents() -> None:
    """In the encoder patches see patches alone: what they become does not depend on the latent tokens."""
    model = build(time_every=0)
    tokens = torch.randn(1, 1, PATCHES + L, 32, requires_grad=True)
    out = model.encoder(tokens, model.encoder_mask)
    seen = out * torch.randn_like(out)  # any sum but that of the squares, which the last norm fixes
    to_patches = torch.autograd.grad(seen[:, :, :PATCHES].sum(), tokens, retain_graph=True)[0]
    to_latents = torch.autograd.grad(seen[:, :, PATCHES:].sum(), tokens)[0]
    assert (to_patches[:, :, PATCHES:] == 0).all()
    assert (to_latents.abs().amax(-1) > 0).all()


def test_latents_cannot_see_read_outs() -> None:
    """In the decoder latents see latents alone; every read-out sees all latents."""
    model = build(time_every=0)
    tokens = torch.randn(1, 1, L + PATCHES, 32, requires_grad=True)
    out = model.decoder(tokens, model.decoder_mask)
    seen = out * torch.randn_like(out)
    to_latents = torch.autograd.grad(seen[:, :, :L].sum(), tokens, retain_graph=True)[0]
    to_readout = torch.autograd.grad(seen[:, :, L].sum(), tokens)[0]
    assert (to_latents[:, :, L:] == 0).all()
    assert (to_readout[:, :, :L].abs().amax(-1) > 0).all()


@torch.no_grad()
def test_no_frame_looks_ahead() -> None:
    model = build()
    assert model.causal
    one, other = video(), video()
    other[:, 5] = 255 - other[:, 5]
    z, z_other = model.encode(one), model.encode(other)
    assert torch.equal(z[:, :5], z_other[:, :5])
    assert (z[:, 5:] - z_other[:, 5:]).abs().amax((0, 2, 3)).min() > 1e-6
    image, image_other = model.decode(z), model.decode(z_other)
    assert torch.equal(image[:, :5], image_other[:, :5])


@torch.no_grad()
def test_without_time_layers_frames_stand_alone() -> None:
    model = build(time_every=0)
    assert not model.causal
    whole = model.encode(video())
    alone = model.encode(video().flatten(0, 1)[:, None])
    assert torch.allclose(whole.flatten(0, 1), alone[:, 0], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("time_every", [2, 0])
def test_frame_by_frame_equals_the_whole_video(time_every: int) -> None:
    """Encoder and decoder with a cache, over three wraps of it."""
    model = build(time_every)
    z, cache = model.encode(video()), model.cache(B, torch.device("cpu"))
    image = model.decode(z)
    for t in range(T):
        now = model.encode(video()[:, [t]], cache)
        cache.encoder.advance()
        drawn = model.decode(now, cache)
        cache.decoder.advance()
        assert (now - z[:, [t]]).abs().max() < 1e-5
        assert (drawn - image[:, [t]]).abs().max() < 1e-5


@pytest.mark.parametrize("standardise", ["pixel", "channel"])
def test_standardising_can_be_undone(standardise: str) -> None:
    model = build(standardise=standardise)
    frames = video().flatten(0, 1)
    model.fit_standard(frames)
    assert bool(model.fitted)
    back = model.standardise(frames) * model.scale + model.mean
    assert torch.allclose(back * 255, frames.float(), atol=1e-3)
    spread = model.mean.flatten(0, 1).std(0).max()
    assert (spread > 0) == (standardise == "pixel")  # a mean colour is the same everywhere


def test_standardised_frames_have_zero_mean_and_unit_scale() -> None:
    model = build()
    frames = video(40).flatten(0, 1)
    model.fit_standard(frames)
    x = model.standardise(frames)
    assert x.mean(0).abs().max() < 1e-4
    assert x.std() == pytest.approx(1, abs=0.05)


@torch.no_grad()
def test_masked_patches_are_replaced_by_the_learned_embedding() -> None:
    """What stood in a hidden patch cannot matter; what takes its place is learned."""
    model = build()
    hidden = torch.zeros(B, T, PATCHES, dtype=torch.bool)
    hidden[:, :, 1] = True  # rows 0 to 3, columns 4 to 7
    one, other = video(), video()
    other[:, :, :4, 4:8] = 0
    assert torch.equal(model.encode(one, hidden=hidden), model.encode(other, hidden=hidden))
    assert not torch.allclose(model.encode(one), model.encode(other))
    before = model.encode(one, hidden=hidden)
    model.masked.add_(1)
    assert not torch.allclose(model.encode(one, hidden=hidden), before)


def test_masking_rates_are_uniform_and_each_frame_has_its_own() -> None:
    """p ~ U(0, 0.9) per frame: mean 0.45, deviation 0.9 / sqrt(12), none above 0.9."""
    rate = random_mask((64, 32), 400, 0.9, 1.0, seeded()).float().mean(-1)
    assert rate.mean() == pytest.approx(0.45, abs=0.02)
    assert rate.std() == pytest.approx(0.9 / 12**0.5, abs=0.02)
    assert rate.max() < 0.97  # 0.9 and the noise of 400 draws
    assert rate[0].std() > 0.1
    quarters = torch.histc(rate, 4, 0, 0.9) / rate.numel()
    assert (quarters - 0.25).abs().max() < 0.04


@given(share=st.floats(0, 1), seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_share_of_the_frames_is_masked(share: float, seed: int) -> None:
    masked = random_mask((64, 16), 200, 0.9, share, seeded(seed)).any(-1)
    assert masked.float().mean() == pytest.approx(share, abs=0.08)


def test_a_crop_is_one_shift_of_the_whole_video() -> None:
    pad = 2
    frames = torch.zeros(50, 3, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    frames[:, :, 4, 6] = 255
    shifts = set()
    for row in random_crop(frames, pad, seeded()):
        places = (row[..., 0] == 255).nonzero()
        assert len(places) == 3  # once in every frame,
        assert len(places[:, 1:].unique(dim=0)) == 1  # at one place
        shifts.add(tuple((places[0, 1:] - torch.tensor([4, 6])).tolist()))
    assert shifts <= {(y, x) for y in range(-pad, pad + 1) for x in range(-pad, pad + 1)}
    assert len(shifts) > 15  # of 25


def test_a_crop_repeats_the_edge() -> None:
    frames = torch.arange(HEIGHT, dtype=torch.uint8)[:, None, None].expand(1, 1, HEIGHT, WIDTH, 3)
    rows = random_crop(frames, 3, seeded(2))[0, 0, :, 0, 0].int()
    steps = rows.diff()
    assert ((steps == 0) | (steps == 1)).all()
    assert (rows >= 0).all()
    assert (rows < HEIGHT).all()
