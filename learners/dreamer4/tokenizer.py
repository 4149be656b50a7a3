"""Dreamer 4's tokenizer (section 3.1): masked video in, a few bounded latents a frame out, and back.

Shapes: B rows, T frames, H W pixels, P patches, L latents, Z channels of a latent, D model channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from learners.nn.cache import Cache
from learners.nn.transformer import Transformer, TransformerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerNetConfig:
    """`standardise`: "pixel" takes a mean image off (still cameras), "channel" a mean colour; both set the scale."""

    patch: int = 8  # pixels
    latents: int = 8  # learned latent tokens a frame
    channels: int = 8  # of each latent, after the tanh
    standardise: str = "pixel"
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    decoder: TransformerConfig = field(default_factory=TransformerConfig)


class Encoding(NamedTuple):
    encoder: Cache
    decoder: Cache


class Tokenizer(nn.Module):
    """Encoder and decoder are causal in time, so a video can be coded frame by frame with a cache."""

    mean: Tensor
    scale: Tensor
    fitted: Tensor
    encoder_mask: Tensor
    decoder_mask: Tensor

    def __init__(self, config: TokenizerNetConfig, image: tuple[int, int, int]) -> None:
        super().__init__()
        height, width, colours = image
        if height % config.patch or width % config.patch:
            raise ValueError(f"an image of {height} x {width} does not divide into patches of {config.patch} pixels")
        self.config, self.image = config, image
        self.grid = (height // config.patch, width // config.patch)
        patches, wide, deep = self.grid[0] * self.grid[1], config.encoder.dim, config.decoder.dim
        self.patch_in = nn.Conv2d(colours, wide, config.patch, config.patch)
        self.patch_out = nn.ConvTranspose2d(deep, colours, config.patch, config.patch)
        # Unit-scale learned tokens: at 0.02 the pilot stayed on a plateau where only the background was drawn.
        self.position = nn.Parameter(0.5 * torch.randn(patches, wide))
        self.masked = nn.Parameter(0.5 * torch.randn(wide))
        self.latent_in = nn.Parameter(0.5 * torch.randn(config.latents, wide))
        self.latent_out = nn.Parameter(0.5 * torch.randn(config.latents, deep))
        self.readout = nn.Parameter(0.5 * torch.randn(patches, deep))
        self.encoder, self.decoder = Transformer(config.encoder), Transformer(config.decoder)
        self.bottleneck = nn.Linear(wide, config.channels)
        self.expand = nn.Linear(config.channels, deep)
        self.register_buffer("mean", torch.full((height, width, colours), 0.5))
        self.register_buffer("scale", torch.tensor(0.25))
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("encoder_mask", encoder_mask(patches, config.latents), persistent=False)
        self.register_buffer("decoder_mask", decoder_mask(config.latents, patches), persistent=False)

    @property
    def causal(self) -> bool:
        """Whether a frame's latents depend on the frames before it."""
        return bool(self.config.encoder.time_every)

    def cache(self, batch: int, device: torch.device) -> Encoding:
        tokens = len(self.encoder_mask)
        return Encoding(self.encoder.cache(batch, tokens, device), self.decoder.cache(batch, tokens, device))

    def standardise(self, image: Tensor) -> Tensor:
        """uint8 (..., H, W, 3) -> float, zero mean and unit scale over the data."""
        return (image.float() / 255 - self.mean) / self.scale

    def encode(self, image: Tensor, cache: Encoding | None = None, hidden: Tensor | None = None) -> Tensor:
        """uint8 (B, T, H, W, 3) -> latents (B, T, L, Z) in (-1, 1). `hidden` (B, T, P) marks patches to mask."""
        return self.encode_standard(self.standardise(image), cache, hidden)

    def encode_standard(self, x: Tensor, cache: Encoding | None = None, hidden: Tensor | None = None) -> Tensor:
        batch, length = x.shape[:2]
        patches = self.patch_in(rearrange(x, "b t h w c -> (b t) c h w")).flatten(2).transpose(1, 2)
        patches = patches.unflatten(0, (batch, length))
        if hidden is not None:
            patches = torch.where(hidden[..., None], self.masked, patches)
        latents = self.latent_in.expand(batch, length, -1, -1)
        tokens = torch.cat((patches + self.position, latents), dim=2)
        out = self.encoder(tokens, self.encoder_mask, cache.encoder if cache else None)
        return torch.tanh(self.bottleneck(out[:, :, -self.config.latents :]))

    def decode_standard(self, z_BTLZ: Tensor, cache: Encoding | None = None) -> Tensor:
        """Latents -> standardised images (B, T, H, W, 3)."""
        batch, length = z_BTLZ.shape[:2]
        latents = self.expand(z_BTLZ) + self.latent_out
        tokens = torch.cat((latents, self.readout.expand(batch, length, -1, -1)), dim=2)
        out = self.decoder(tokens, self.decoder_mask, cache.decoder if cache else None)[:, :, self.config.latents :]
        grid = rearrange(out, "b t (h w) d -> (b t) d h w", h=self.grid[0])
        return rearrange(self.patch_out(grid), "(b t) c h w -> b t h w c", b=batch)

    def decode(self, z_BTLZ: Tensor, cache: Encoding | None = None) -> Tensor:
        """Latents -> images in [0, 1]."""
        return (self.decode_standard(z_BTLZ, cache) * self.scale + self.mean).clamp(0, 1)

    @torch.no_grad()
    def fit_standard(self, image: Tensor) -> None:
        """Take the mean and the scale from frames (N, H, W, 3), uint8."""
        x = image.float() / 255
        mean = x.mean(0) if self.config.standardise == "pixel" else x.mean((0, 1, 2)).expand(self.image)
        self.mean.copy_(mean)
        self.scale.copy_((x - mean).std().clamp(min=1e-3))
        self.fitted.fill_(True)


def encoder_mask(patches: int, latents: int) -> Tensor:
    """Patches see patches; latents see everything. Order of tokens: patches, latents."""
    mask = torch.ones(patches + latents, patches + latents, dtype=torch.bool)
    mask[:patches, patches:] = False
    return mask


def decoder_mask(latents: int, patches: int) -> Tensor:
    """Latents see latents; read-outs see themselves and the latents. Order of tokens: latents, read-outs."""
    mask = torch.ones(latents + patches, latents + patches, dtype=torch.bool)
    mask[:latents, latents:] = False
    return mask


def random_mask(
    shape: tuple[int, int], patches: int, highest: float, share: float, generator: torch.Generator
) -> Tensor:
    """(B, T, P) bool: each frame drops its patches with its own p ~ U(0, highest); a `share` of frames is masked."""
    device = generator.device
    p = highest * torch.rand(*shape, 1, generator=generator, device=device)
    p = p * (torch.rand(*shape, 1, generator=generator, device=device) < share)
    return torch.rand(*shape, patches, generator=generator, device=device) < p


def random_crop(image: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Shift each video (B, T, H, W, C) by up to `pad` pixels, edges repeated; one shift for all frames of a video."""
    height, width = image.shape[2:4]
    flat = F.pad(rearrange(image, "b t h w c -> b (t c) h w").float(), (pad,) * 4, mode="replicate").to(image.dtype)
    corners = torch.randint(0, 2 * pad + 1, (len(image), 2), generator=generator, device=generator.device).tolist()
    rows = [video[:, y : y + height, x : x + width] for video, (y, x) in zip(flat, corners, strict=True)]
    return rearrange(torch.stack(rows), "b (t c) h w -> b t h w c", c=image.shape[-1])
