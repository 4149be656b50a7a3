"""Vector quantisation (van den Oord et al. 2017) with codebooks that follow moving averages of what takes each code.

Shapes: N vectors of D numbers, K codes, R candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from learners.rvq.kmeans import half_squares, kmeans, nearest
from learners.rvq.statistics import Statistics, count, first, none, rank
from replay.errors import BadInput

STEEP = 997.0  # of the slope that ranks candidates
TINY = 1e-8  # a share that no code has
INITIAL_ROWS = 32768  # vectors that k-means looks at, at the most


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizerConfig:
    num_embeddings: int = 256
    dim: int = 64
    decay: float = 0.99  # of the moving averages, an update
    dead_share: float = 0.03  # a code is restarted when its share is below this part of the mean share
    candidates: int = 16  # codes of a layer that can be restarted in one update

    def __post_init__(self) -> None:
        least = min(self.candidates, self.dead_share)
        if min(self.num_embeddings, self.dim) < 1 or not 0 <= self.decay < 1 or least < 0:
            raise BadInput(
                f"{self} is no codebook.",
                "Give num_embeddings and dim from 1, a decay in [0, 1), dead_share and candidates from 0.",
            )


class Quantised(NamedTuple):
    vectors: Tensor  # (..., D): the codes; gradients pass straight through
    codes: Tensor  # (...) int64
    commitment: Tensor  # scalar: mean squared distance to the codes, which moves what is encoded alone
    statistics: Sequence[Statistics]  # one for each codebook; empty unless training


class VectorQuantizer(nn.Module):
    """One codebook. Statistics come out of a training step and go in by `update`, after any merging over workers.

    Averages are kept of shares, not of counts, so that batches of any size (or N workers' worth) weigh the same. With
    n_k of n vectors on code k, whose sum is s_k, and decay d:

        share_k <- d share_k + (1 - d) n_k / n,    total_k <- d total_k + (1 - d) s_k / n,    code_k = total_k / share_k
    """

    codebook: Tensor  # (K, D)
    shares: Tensor  # (K,)
    totals: Tensor  # (K, D)
    updates: Tensor  # (), those done
    ready: Tensor  # (), whether the codebook was ever set
    direction: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        k, d = config.num_embeddings, config.dim
        self.register_buffer("codebook", torch.randn(k, d) / d**0.5)
        self.register_buffer("shares", torch.full((k,), 1 / k))
        self.register_buffer("totals", self.codebook / k)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
        slope = torch.randn(d, generator=torch.Generator().manual_seed(d), device="cpu") * STEEP
        self.register_buffer("direction", slope, persistent=False)  # follows from D
        self._half_of, self._half_squares = (0, -1), torch.zeros(0)

    @torch.no_grad()
    def initialise(self, x_ND: Tensor, generator: torch.Generator, iterations: int = 20) -> Tensor:
        """k-means of the vectors (of some of them where there are many). Returns their codes (N,)."""
        some = x_ND.float()
        if len(some) > INITIAL_ROWS:
            some = some[torch.randperm(len(some), generator=generator, device=some.device)[:INITIAL_ROWS]]
        found = kmeans(some, self.config.num_embeddings, generator, iterations)
        self.assign(found.centres, found.shares)
        return self.nearest(x_ND.float())

    @torch.no_grad()
    def assign(self, codebook_KD: Tensor, shares_K: Tensor | None = None) -> None:
        """Sets the codes, and how often each is expected (all alike if not given)."""
        self.codebook.copy_(codebook_KD)
        self.shares.copy_(torch.full_like(self.shares, 1 / len(self.shares)) if shares_K is None else shares_K)
        self.totals.copy_(self.codebook * self.shares[:, None])
        self.ready.fill_(True)

    def forward(self, x: Tensor) -> Quantised:
        """Any shape (..., D)."""
        flat = x.detach().float().flatten(0, -2)
        index = self.nearest(flat)
        found = self.look_up(index).view(x.shape)
        statistics = [self.statistics(flat, index)] if self.training else []
        return Quantised(x + (found - x).detach(), index.view(x.shape[:-1]), (x - found).square().mean(), statistics)

    def nearest(self, x_ND: Tensor) -> Tensor:
        """(N,) int64."""
        return nearest(x_ND, self.codebook, self._half())

    def look_up(self, index: Tensor) -> Tensor:
        """(...) int64 -> (..., D)."""
        return nn.functional.embedding(index, self.codebook)

    @torch.no_grad()
    def statistics(self, x_ND: Tensor, index_N: Tensor, active_N: Tensor | None = None) -> Statistics:
        """Of vectors that took these codes; those that are not active (0.0) do not count.

        There are candidates only while a code is out of use, which all workers agree on.
        """
        counts, sums = count(x_ND, index_N, self.config.num_embeddings, active_N)
        if len(self._dead()):
            ranks = rank(x_ND, self.direction, float(self.updates), active_N)
            ranks, candidates = first(ranks, x_ND, self.config.candidates)
        else:
            ranks, candidates = none(self.config.candidates, x_ND)
        return Statistics(counts=counts, sums=sums, ranks=ranks, candidates=candidates)

    @torch.no_grad()
    def update(self, statistics: Statistics) -> None:
        """One step of the moving averages; then codes out of use move to candidates. A function of its arguments."""
        total = statistics.counts.sum()
        if total > 0:
            step = 1 - self.config.decay
            self.shares.lerp_(statistics.counts / total, step)
            self.totals.lerp_(statistics.sums / total, step)
            means = self.totals / self.shares.clamp(min=TINY)[:, None]
            self.codebook.copy_(torch.where(self.shares[:, None] > TINY, means, self.codebook))
        self._restart(statistics)
        self.updates += 1

    def _dead(self) -> Tensor:
        """The codes out of use, in order."""
        return (self.shares < self.config.dead_share * self.shares.mean()).nonzero()[:, 0]

    def _half(self) -> Tensor:
        """-|c|^2 / 2 of the codes as they are now. Kept until they move: a single chunk would wait for little else."""
        state = (self.codebook.data_ptr(), self.codebook._version)
        if state != self._half_of:
            self._half_of, self._half_squares = state, half_squares(self.codebook)
        return self._half_squares

    def _restart(self, statistics: Statistics) -> None:
        """The codes out of use, in order, get the candidates in order of rank, and the mean share to begin with."""
        dead, mean = self._dead(), self.shares.mean()
        fresh = statistics.candidates[statistics.ranks.isfinite()]
        moved = min(len(dead), len(fresh))
        if moved:
            dead = dead[:moved]
            self.codebook[dead] = fresh[:moved]
            self.shares[dead] = mean
            self.totals[dead] = fresh[:moved] * mean


def usage(codes: Tensor, count: int) -> float:
    """The share of the codes that occur in `codes` (...) at all."""
    return float((torch.bincount(codes.flatten(), minlength=count) > 0).float().mean())


def perplexity(codes: Tensor, count: int) -> float:
    """exp of the entropy of their frequencies: how many codes, evenly used, would be as unpredictable."""
    shares = torch.bincount(codes.flatten(), minlength=count).double() / max(codes.numel(), 1)
    return float(torch.exp(-torch.xlogy(shares, shares).sum()))
