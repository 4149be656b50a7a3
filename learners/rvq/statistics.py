"""What a codebook has to hear of a batch, in a form that adds up over batches and workers in any grouping.

Shapes: N vectors of D numbers, K codes, R candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor

GOLDEN = 0.6180339887  # its multiples modulo 1 lie nowhere near each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of one codebook. `a + b` are those of both batches together; the order changes the last bits of sums at most."""

    counts: Tensor  # (K,) float32: vectors that took each code
    sums: Tensor  # (K, D) float32: what they add up to
    candidates: Tensor  # (R, D) vectors that codes out of use may move to, by rank
    ranks: Tensor  # (R,) float64, ascending; inf where there is no candidate

    def __add__(self, other: Statistics) -> Statistics:
        ranks = torch.cat([self.ranks, other.ranks])
        candidates = torch.cat([self.candidates, other.candidates])
        lowest = first(ranks, candidates, len(self.ranks))
        return Statistics(
            counts=self.counts + other.counts, sums=self.sums + other.sums, ranks=lowest[0], candidates=lowest[1]
        )


def merge(workers: Sequence[Sequence[Statistics]]) -> list[Statistics]:
    """One for each codebook, over all workers. Bit-equal wherever the workers come in the same order."""
    return [reduce(Statistics.__add__, layer) for layer in zip(*workers, strict=True)]


class Group(Protocol):
    """Workers that do the same thing at the same time; learners.collective.Peers is one."""

    def sum(self, tensors: Sequence[Tensor]) -> None: ...

    def gather(self, tensor: Tensor) -> Tensor: ...


def merge_over(group: Group, mine: Sequence[Statistics]) -> list[Statistics]:
    """What `merge` finds of all workers' statistics, found by all of them together: sums are summed in place."""
    group.sum([part for layer in mine for part in (layer.counts, layer.sums)])
    ranks, candidates = (
        group.gather(torch.stack(parts)) for parts in zip(*((s.ranks, s.candidates) for s in mine), strict=True)
    )
    found = []
    for number, layer in enumerate(mine):
        lowest, vectors = first(ranks[:, number].flatten(), candidates[:, number].flatten(0, 1), len(layer.ranks))
        found.append(Statistics(counts=layer.counts, sums=layer.sums, ranks=lowest, candidates=vectors))
    return found


def count(x_ND: Tensor, index_N: Tensor, codes: int, active_N: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Counts (K,) and sums (K, D) of vectors by code; only the active ones, if given (1.0 or 0.0)."""
    if active_N is None:
        counts = torch.bincount(index_N, minlength=codes).to(x_ND.dtype)
    else:
        counts = torch.bincount(index_N, weights=active_N, minlength=codes).to(x_ND.dtype)
        x_ND = x_ND * active_N[:, None]
    return counts, x_ND.new_zeros(codes, x_ND.shape[1]).index_add_(0, index_N, x_ND)


def rank(x_ND: Tensor, direction_D: Tensor, step: float, active_N: Tensor | None = None) -> Tensor:
    """(N,) float64 in [0, 1): as good as random, but a function of the vector: workers need not agree on anything.

    The fractional part of a steep slope; another one at each step. In float64, so that it does not depend on the order
    of the sum, which is another one in batches of another size.
    """
    turn = (x_ND.double() @ direction_D.double() + step * GOLDEN) % 1.0
    return turn if active_N is None else torch.where(active_N > 0, turn, torch.inf)


def first(ranks_N: Tensor, x_ND: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` vectors of lowest rank, (count,) and (count, D); equal vectors are one. inf and zeros fill up."""
    found, order = ranks_N.sort(stable=True)
    repeated = torch.zeros_like(found, dtype=torch.bool)
    repeated[1:] = found[1:] == found[:-1]
    found, again = found.masked_fill(repeated, torch.inf).sort(stable=True)
    found, order = found[:count], order[again[:count]]
    vectors = torch.where(found[:, None].isfinite(), x_ND[order], 0.0)
    short = count - len(found)
    if short > 0:
        found = torch.cat([found, found.new_full((short,), torch.inf)])
        vectors = torch.cat([vectors, vectors.new_zeros(short, x_ND.shape[1])])
    return found, vectors


def none(count: int, x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """No candidates: what `first` finds where every rank is inf."""
    ranks = torch.full((count,), torch.inf, dtype=torch.float64, device=x_ND.device)
    return ranks, x_ND.new_zeros(count, x_ND.shape[1])
