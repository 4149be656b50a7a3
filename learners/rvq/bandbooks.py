"""Fits the codebooks of bands, each to what the ones before it leave of chunks *that they were not fitted to*.

With a thousand chunks, 256 codes nearly know them by heart: what they leave of these is far smaller than what they
leave of others, and later tokens learn nothing that is of use. So there are two halves, and what counts of each is what
the other one's codebooks leave of it: a fifth of the error on other chunks, with 50 episodes and 256 bits.

Shapes: N chunks of C coefficients, K codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from learners.rvq.kmeans import kmeans, nearest

TRIAL_ROWS, TRIAL_ITERATIONS = 4096, 6  # of the codebooks that only tell which width pays


def fit_books(
    x_NC: Tensor, half_N: Tensor, count: int, codes: int, widths: Sequence[int], iterations: int, draws: torch.Generator
) -> Iterator[Tensor]:
    """`count` codebooks (K, C), zero beyond each one's band. `half` says which half a chunk belongs to, 0 or 1; if all
    are of one, there is nothing to hold it against."""
    halves = [x_NC[half_N == 0], x_NC[half_N == 1]]
    if not all(map(len, halves)):
        halves = [x_NC]
    for _ in range(count):
        band = widest_that_pays(halves, codes, widths, draws)
        yield book(torch.cat(halves), band, codes, iterations, draws)
        books = [book(half, band, codes, iterations, draws) for half in halves]
        halves = [half - other[nearest(half, other)] for half, other in zip(halves, reversed(books), strict=True)]


def book(x_NC: Tensor, band: Tensor, codes: int, iterations: int, draws: torch.Generator) -> Tensor:
    """(K, C). One code is nothing at all, so that no token makes a chunk worse."""
    out = x_NC.new_zeros(codes, x_NC.shape[1])
    centres = kmeans(x_NC[:, band], codes, draws, iterations).centres
    centres[centres.square().sum(1).argmin()] = 0.0
    out[:, band] = centres
    return out


def widest_that_pays(halves: Sequence[Tensor], codes: int, widths: Sequence[int], draws: torch.Generator) -> Tensor:
    """The coefficients with most energy left: as many as take most off the other half."""
    known, fresh = halves[0], halves[-1]
    order = torch.cat(tuple(halves)).square().mean(0).argsort(descending=True, stable=True)
    known = known[torch.randperm(len(known), generator=draws, device=known.device)[:TRIAL_ROWS]]
    fresh = fresh[torch.randperm(len(fresh), generator=draws, device=fresh.device)[:TRIAL_ROWS]]
    bands = [order[:width] for width in widths if width <= len(order)] or [order]
    return max(bands, key=lambda band: _gain(known[:, band], fresh[:, band], codes, draws))


def _gain(known_NX: Tensor, fresh_NX: Tensor, codes: int, draws: torch.Generator) -> float:
    centres = kmeans(known_NX, codes, draws, TRIAL_ITERATIONS).centres
    left = fresh_NX - centres[nearest(fresh_NX, centres)]
    return float(fresh_NX.square().sum(1).mean() - left.square().sum(1).mean())
