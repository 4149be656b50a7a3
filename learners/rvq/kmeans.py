"""k-means: where codebooks begin. A function of its data and its generator alone.

Shapes: N points of D numbers, K centres.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Clusters(NamedTuple):
    centres: Tensor  # (K, D)
    shares: Tensor  # (K,) of the points; 0 for a centre without any, as when there are fewer points than centres


def nearest(x_ND: Tensor, centres_KD: Tensor, half_K: Tensor | None = None) -> Tensor:
    """(N,) int64: argmin |x - c|^2 = argmax x.c - |c|^2 / 2, one matrix product. `half_K`: -|c|^2 / 2, if known."""
    near_NK = torch.addmm(half_squares(centres_KD) if half_K is None else half_K, x_ND, centres_KD.T)
    if near_NK.device.type == "cpu" and len(
        near_NK
    ):  # numpy's argmax uses vector units, torch's takes as long as addmm
        return torch.from_numpy(near_NK.detach().numpy().argmax(1))
    return near_NK.argmax(1)


def half_squares(centres_KD: Tensor) -> Tensor:
    """(K,): -|c|^2 / 2."""
    return centres_KD.square().sum(1).mul_(-0.5)


def kmeans(x_ND: Tensor, count: int, generator: torch.Generator, iterations: int = 20) -> Clusters:
    """Lloyd's algorithm from k-means++ (Arthur & Vassilvitskii 2007). Stops early when nothing moves any more.

    A centre that loses all its points moves to the one that is worst off. Raises ValueError without points.
    """
    centres = _spread(x_ND, count, generator)
    index = nearest(x_ND, centres)
    for _ in range(iterations):
        centres, counts = _means(x_ND, index, centres)
        _move_empty(x_ND, index, centres, counts)
        before, index = index, nearest(x_ND, centres)
        if torch.equal(before, index):
            break
    centres, counts = _means(x_ND, index, centres)
    return Clusters(centres, counts / len(x_ND))


def _spread(x_ND: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means++: each new centre is a point drawn by its squared distance to those there are."""
    if not len(x_ND):
        raise ValueError("there are no points")
    square = x_ND.square().sum(1)
    chosen = torch.randint(len(x_ND), (1,), generator=generator, device=x_ND.device)
    centres, far = [x_ND[chosen[0]]], torch.full_like(square, torch.inf)
    draws = torch.rand(count, generator=generator, device=x_ND.device)
    for number in range(1, count):
        last = centres[-1]
        far = torch.minimum(far, (square - 2 * (x_ND @ last) + last.square().sum()).clamp(min=0))
        sums = far.cumsum(0)
        place = torch.searchsorted(sums, draws[number] * sums[-1], right=True).clamp(max=len(x_ND) - 1)
        centres.append(x_ND[place])
    return torch.stack(centres)


def _means(x_ND: Tensor, index_N: Tensor, centres_KD: Tensor) -> tuple[Tensor, Tensor]:
    counts = torch.bincount(index_N, minlength=len(centres_KD)).to(x_ND.dtype)
    sums = torch.zeros_like(centres_KD).index_add_(0, index_N, x_ND)
    return torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centres_KD), counts


def _move_empty(x_ND: Tensor, index_N: Tensor, centres_KD: Tensor, counts_K: Tensor) -> None:
    empty = (counts_K == 0).nonzero()[:, 0]
    if not len(empty):
        return
    far = (x_ND - centres_KD[index_N]).square().sum(1)
    worst = far.topk(min(len(empty), len(x_ND))).indices
    centres_KD[empty[: len(worst)]] = x_ND[worst]
