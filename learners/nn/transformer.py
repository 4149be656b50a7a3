"""The block-causal transformer of Dreamer 4 (section 3): space-only and time-only layers.

Shapes: B rows, T frames, S tokens of a frame, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learners.nn.attention import Attention, attend
from learners.nn.cache import Cache
from learners.nn.norm import RMSNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """`time_every` n makes every n-th layer attend over time and the others over space; 0 leaves time out."""

    dim: int = 96
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    time_every: int = 4
    context: int = 16  # frames that a frame can look back on, itself included
    mlp_ratio: float = 2.67
    softcap: float = 50.0  # 0 turns the cap on attention logits off

    def is_time(self, layer: int) -> bool:
        return bool(self.time_every) and layer % self.time_every == self.time_every - 1


class SwiGLU(nn.Module):
    """Shazeer 2020: (silu(x W) * x V) U."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = int(dim * ratio / 8 + 0.5) * 8
        self.up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class Layer(nn.Module):
    """Pre-norm residual layer: attention over space or over time, then SwiGLU."""

    def __init__(self, config: TransformerConfig, index: int) -> None:
        super().__init__()
        self.time, self.index, self.context = config.is_time(index), index, config.context
        self.norm = RMSNorm(config.dim)
        self.attention = Attention(config.dim, config.heads, config.kv_heads, config.softcap)
        self.mlp_norm = RMSNorm(config.dim)
        self.mlp = SwiGLU(config.dim, config.mlp_ratio)

    def forward(self, x_BTSD: Tensor, space: Tensor | None, time: Tensor | None, cache: Cache | None) -> Tensor:
        mixed = self._time(x_BTSD, time, cache) if self.time else self._space(x_BTSD, space)
        x_BTSD = x_BTSD + mixed
        return x_BTSD + self.mlp(self.mlp_norm(x_BTSD))

    def _space(self, x_BTSD: Tensor, mask: Tensor | None) -> Tensor:
        frames = self.norm(x_BTSD).flatten(0, 1)
        return self.attention(frames, mask).unflatten(0, x_BTSD.shape[:2])

    def _time(self, x_BTSD: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        batch, _, size, _ = x_BTSD.shape
        tracks = self.norm(x_BTSD).permute(2, 0, 1, 3).flatten(0, 1)
        mixed = self._cached(tracks, size, cache) if cache else self.attention(tracks, mask)
        return mixed.unflatten(0, (size, batch)).permute(1, 2, 0, 3)

    def _cached(self, tracks: Tensor, size: int, cache: Cache) -> Tensor:
        lag = None if cache.lag is None else cache.lag.repeat(size)
        q, k, v = self.attention.project(tracks, cache.position, lag)
        keys, values = cache.write(self.index, k, v)
        visible = cache.visible()
        mask = None if visible is None else visible.repeat(size, 1)[:, None, None]
        return self.attention.merge(attend(q, keys, values, mask, self.attention.softcap))


class Transformer(nn.Module):
    """Tokens (B, T, S, D) -> (B, T, S, D). With a cache, T is 1: the present frame looks back on what was committed."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.layers))
        self.norm = RMSNorm(config.dim)
        self.apply(_init)
        for module in self.modules():  # keep the residual stream at unit scale in depth (GPT-2)
            if isinstance(module, Layer):
                for out in (module.attention.out, module.mlp.down):
                    out.weight.data.mul_((2 * config.layers) ** -0.5)

    def cache(self, batch: int, tokens: int, device: torch.device) -> Cache:
        """For `batch` rows of frames of at most `tokens` tokens."""
        return Cache(batch, self.config.layers, self.config.context, tokens, device)

    def forward(self, x_BTSD: Tensor, space: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """`space` (S, S) is true where a token (row) may look at a token (column) of its own frame."""
        length = x_BTSD.shape[1]
        time = None if cache else causal_window(length, self.config.context, x_BTSD.device)
        for layer in self.layers:
            x_BTSD = layer(x_BTSD, space, time, cache)
        return self.norm(x_BTSD)


def causal_window(length: int, context: int, device: torch.device) -> Tensor:
    """(T, T) true where frame t (row) may look at frame s (column): t - context < s <= t."""
    age = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (age >= 0) & (age < context)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
