"""The classifier over codes: cross-entropy to the next codes and a draw of them, as one step with its own gradient.

Logits are laid out (B, K, D), K codes of D latent dimensions: a softmax over the middle vectorises over D.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
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
    """With p = softmax(l) and exponential noise e, softmax(l - ln e) = u / s of u = p / e and s = sum(u): exp is taken
    once. The code drawn is that of the largest u; two that are equal to the last bit would count half each.

    dCE/dl = (p - onehot) / D; with m = sum_k u_k c_k / s the mean code of the draw: dl_k = u_k <g / s, c_k - m>.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, noise: Tensor | None, book: Tensor) -> tuple[Tensor, Tensor]:
        p = logits.softmax(1)
        picked = target[:, None]
        entropy = -p.gather(1, picked).clamp_min(torch.finfo(p.dtype).tiny).log().mean((1, 2))
        u = p if noise is None else p / noise
        summing = nn.functional.pad(book.T, (0, 0, 0, 1), value=1.0)
        mean, s = _weighted(summing, u)
        code = mean
        if noise is not None:
            code, _ = _weighted(summing, torch.eq(u, u.amax(1, keepdim=True), out=torch.empty_like(u)))
        ctx.save_for_backward(p, u, s, mean, picked, book)
        ctx.set_materialize_grads(False)
        return entropy, code

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_entropy: Tensor | None, of_code: Tensor | None) -> tuple[Tensor | None, ...]:
        p, u, s, mean, picked, book = ctx.saved_tensors
        grad: Tensor | None = None
        if of_code is not None:
            g = of_code / s
            grad = book @ g
            grad -= (g * mean).sum(1, keepdim=True)
            grad *= u
        if of_entropy is not None:
            share = (of_entropy / p.shape[2])[:, None, None]
            grad = p * share if grad is None else grad.addcmul_(p, share)
            grad.scatter_add_(1, picked, -share.expand_as(picked))
        return grad, None, None, None


def _weighted(summing: Tensor, weight_BKD: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the codes (B, C, D) by weight, and the sum of the weights (B, 1, D), in one product: `summing`
    (C + 1, K) has the codes in its columns, and ones below."""
    both = summing @ weight_BKD
    total = both[:, -1:]
    return both[:, :-1] / total, total
