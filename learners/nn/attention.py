"""Attention as Dreamer 4 uses it: grouped queries, rotary positions, normalised queries and keys, a soft cap on logits.

Shapes: N rows, L tokens, H query heads, K key heads, E channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learners.nn.norm import RMSNorm


class RotaryEmbedding:
    """Rotary position embedding (Su et al. 2021). The tables are computed in float64: positions may be large."""

    def __init__(self, channels: int, base: float = 10_000.0) -> None:
        # On the CPU whatever the default device is: rates without values would outlive a model built on "meta".
        self.rates = base ** (-torch.arange(0, channels, 2, dtype=torch.float64, device="cpu") / channels)
        self._table: tuple[Tensor, Tensor] | None = None

    def __call__(self, x_NHLE: Tensor, start: int = 0, lag: Tensor | None = None) -> Tensor:
        """Turn the pairs (x_i, x_{i + E/2}) of the token at position p by p times the rate of i.

        The tokens of row n are at positions start - lag[n], start - lag[n] + 1, ...
        """
        cos, sin = self._at(start, x_NHLE.shape[-2], lag, x_NHLE)
        return torch.addcmul(x_NHLE * cos, x_NHLE.roll(x_NHLE.shape[-1] // 2, dims=-1), sin)

    def _at(self, start: int, length: int, lag: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos twice, and -sin then sin: each (L, E), or (N, 1, L, E) with a lag."""
        table = self._table
        if table is None or len(table[0]) < start + length or table[0].device != like.device:
            positions = torch.arange(max(2 * (start + length), 256), dtype=torch.float64, device="cpu")
            angles = positions[:, None] * self.rates
            cos, sin = angles.cos(), angles.sin()
            wide = (torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1))
            table = self._table = (wide[0].float().to(like.device), wide[1].float().to(like.device))
        where: slice | Tensor = slice(start, start + length)
        if lag is not None:
            where = torch.arange(start, start + length, device=like.device) - lag[:, None, None]
        return table[0][where].to(like.dtype), table[1][where].to(like.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, softcap: float) -> Tensor:
    """softmax(cap tanh(q k / (sqrt(E) cap))) v for q (N, H, L, E), k, v (N, K, M, E); mask true where a query may look.

    Without a cap this is torch's fused attention. With one, the fused kernel is FlexAttention on a GPU; on a CPU, where
    windows are short, plain matrix products win.
    """
    if not softcap:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    if q.is_cuda and mask is None:
        return _flex(q, k, v, softcap)
    # The queries of a group lie side by side, so that each key head is read once and nothing is repeated.
    length, scale = q.shape[2], q.shape[-1] ** -0.5
    grouped = (q * (scale / softcap)).reshape(*k.shape[:2], -1, q.shape[-1])
    logits = softcap * torch.tanh(grouped @ k.transpose(-1, -2))
    if mask is not None:
        blocks = mask if mask.dim() == 2 else mask[:, :, None]
        logits = logits.unflatten(2, (-1, length)).masked_fill(~blocks, -torch.inf).flatten(2, 3)
    return (logits.softmax(-1) @ v).reshape(q.shape)


def _flex(q: Tensor, k: Tensor, v: Tensor, softcap: float) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    def cap(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return flex_attention(q, k, v, score_mod=cap, enable_gqa=q.shape[1] != k.shape[1])


class Attention(nn.Module):
    """Multi-head attention of rows of tokens to themselves or, in time, to what a cache remembers."""

    def __init__(self, dim: int, heads: int, kv_heads: int, softcap: float) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.softcap = heads, kv_heads, softcap
        self.channels = dim // heads
        self.rope = RotaryEmbedding(self.channels)
        self.qkv = nn.Linear(dim, (heads + 2 * kv_heads) * self.channels, bias=False)
        self.out = nn.Linear(heads * self.channels, dim, bias=False)
        self.q_norm = RMSNorm(self.channels)
        self.k_norm = RMSNorm(self.channels)

    def project(self, x_NLD: Tensor, start: int = 0, lag: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, L, E), keys and values (N, K, L, E) of tokens at positions start, start + 1, ... less lag."""
        qkv = self.qkv(x_NLD).unflatten(-1, (-1, self.channels)).transpose(1, 2)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        return self.rope(self.q_norm(q), start, lag), self.rope(self.k_norm(k), start, lag), v

    def merge(self, out_NHLE: Tensor) -> Tensor:
        return self.out(out_NHLE.transpose(1, 2).flatten(2))

    def forward(self, x_NLD: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.project(x_NLD)
        return self.merge(attend(q, k, v, mask, self.softcap))
