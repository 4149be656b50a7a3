"""The search for residual codes: the best few beginnings are followed, not the best one alone.

Bands of different tokens overlap, so the code that leaves least now may leave what later tokens cannot take off.

Shapes: N chunks of C coefficients, L codebooks of K codes, W beginnings that are followed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from learners.rvq.kmeans import half_squares


def search(x_NC: Tensor, books_LKC: Tensor | Sequence[Tensor], width: int) -> Tensor:
    """(N, L) int64: codes whose sum is near x. `width` 1 takes the nearest code of each book, one after another."""
    left_NWC = x_NC[:, None]
    codes_NWL = torch.zeros(len(x_NC), 1, 0, dtype=torch.int64, device=x_NC.device)
    for book in books_LKC:
        gain_NWK = left_NWC @ book.T + half_squares(book)  # half of what a code takes off the square
        gain_NWK -= 0.5 * left_NWC.square().sum(-1, keepdim=True)
        best = gain_NWK.flatten(1).topk(min(width, gain_NWK[0].numel())).indices
        parent, code = best // len(book), best % len(book)
        left_NWC = _of(left_NWC, parent) - book[code]
        codes_NWL = torch.cat((_of(codes_NWL, parent), code[..., None]), -1)
    return codes_NWL[:, 0]


def _of(rows_NWX: Tensor, index_NV: Tensor) -> Tensor:
    """(N, V, X)"""
    return rows_NWX.gather(1, index_NV[..., None].expand(-1, -1, rows_NWX.shape[-1]))
