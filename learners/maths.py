"""Pure functions of world-model learning. Each is tested against a closed form or a hand-worked table."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|) (DreamerV3, eq. 9)."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """The inverse of symlog."""
    return torch.sign(x) * torch.expm1(x.abs())


def two_hot(x: Tensor, bins: Tensor) -> Tensor:
    """Spread each x over its two nearest bins so that the weighted mean is x. (...,) -> (..., K); bins (K,) ascending.

    Values outside the bins are clamped to the first or the last one.
    """
    x = x.clamp(bins[0], bins[-1])
    upper = torch.searchsorted(bins, x.contiguous()).clamp(1, len(bins) - 1)
    lower = upper - 1
    weight = (x - bins[lower]) / (bins[upper] - bins[lower])
    size = len(bins)
    return F.one_hot(lower, size) * (1 - weight)[..., None] + F.one_hot(upper, size) * weight[..., None]


def lambda_returns(reward: Tensor, value: Tensor, gamma: float, lam: float) -> Tensor:
    """R_t = r_{t+1} + gamma ((1 - lam) v_{t+1} + lam R_{t+1}), R_H = v_H.

    reward (B, H) holds r_1 .. r_H, value (B, H + 1) holds v_0 .. v_H; returns (B, H): R_0 .. R_{H-1}.
    Dreamer 4 prints v_t inside the bracket; only v_{t+1} makes lam = 0 the one-step TD target, so that is what we use.
    """
    last = value[:, -1]
    out = []
    for t in reversed(range(reward.shape[1])):
        last = reward[:, t] + gamma * ((1 - lam) * value[:, t + 1] + lam * last)
        out.append(last)
    return torch.stack(out[::-1], dim=1)


def ramp(tau: Tensor, floor: float = 0.1) -> Tensor:
    """Loss weight of a signal level, w(tau) = (1 - floor) tau + floor (Dreamer 4, eq. 8: 0.9 tau + 0.1)."""
    return (1 - floor) * tau + floor


def group_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x over the entries where mask is true; 0 if there are none. Scalar."""
    return (x * mask).sum() / mask.sum().clamp(min=1)


def psnr(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of a mean squared error of images in [0, 1]."""
    return -10 * torch.log10(mse.clamp(min=1e-10))
