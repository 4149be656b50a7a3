"""The classifier over codes: cross-entropy to the next codes and a draw of them, as one step with its own gradient.

Logits are laid out (B, K, D), K codes of D latent dimensions: a softmax over the middle vectorises over D.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def classify(logits_BKD: Tensor, target_BD: Tensor, noise_BKD: Tensor | None, book_KC: Tensor) -> tuple[Tensor, Tensor]:
    """(cross-entropy (B,) as a mean over D, next codes (B, C, D)).

    With `noise`, exponential of rate 1, the codes are drawn by straight-through Gumbel-softmax of temperature 1: one
    code forward, the softmax of the disturbed logits backward (Jang et al. 2017). Without, they are the expected codes.
    """
    return _Classify.apply(logits_BKD.float(), target_BD, noise_BKD, book_KC)


def expected(logits: Tensor, book_KC: Tensor) -> Tensor:
    """Logits (..., K, D) -> sum_k p_k c_k, (..., C, D)."""
    return book_KC.T @ logits.float().softmax(-2)


class _Classify(torch.autograd.Function):
    """With p = softmax(l) and exponential noise e, softmax(l - ln e) = (p / e) / sum(p / e), so exp is taken once.

    dCE/dl = (p - onehot) / D; with q the softmax of the draw and m = sum_k q_k c_k: dl_k = q_k <g, c_k - m>.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, noise: Tensor | None, book: Tensor) -> tuple[Tensor, Tensor]:
        p = logits.softmax(1)
        picked = target[:, None]
        entropy = -p.gather(1, picked).clamp_min(torch.finfo(p.dtype).tiny).log().mean((1, 2))
        if noise is None:
            q = p
            mean = codes = book.T @ q
        else:
            q = p / noise
            best = q.max(1).indices
            q /= q.sum(1, keepdim=True)
            mean = book.T @ q
            codes = torch.nn.functional.embedding(best, book).transpose(1, 2).contiguous()
        ctx.save_for_backward(p, q, mean, picked, book)
        ctx.set_materialize_grads(False)
        return entropy, codes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_entropy: Tensor | None, of_codes: Tensor | None) -> tuple[Tensor | None, ...]:
        p, q, mean, picked, book = ctx.saved_tensors
        grad: Tensor | None = None
        if of_codes is not None:
            grad = book @ of_codes
            grad -= (of_codes * mean).sum(1, keepdim=True)
            grad *= q
        if of_entropy is not None:
            share = (of_entropy / p.shape[2])[:, None, None]
            grad = p * share if grad is None else grad.addcmul_(p, share)
            grad.scatter_add_(1, picked, -share.expand_as(picked))
        return grad, None, None, None
