"""The classifier over codes: cross-entropy to the next codes and a draw of them, as one step with its own gradient.

Logits are laid out (B, K, D), K codes of D latent dimensions: a softmax over the middle vectorises over D.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 2**18  # numbers, a mebibyte


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

    Large batches go block by block of rows, so that what lies between two passes stays in the processor's cache.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, noise: Tensor | None, book: Tensor) -> tuple[Tensor, Tensor]:
        p, picked = torch.empty_like(logits), target[:, None]
        summing = nn.functional.pad(book.T, (0, 0, 0, 1), value=1.0)
        blocks = [_forward(summing, *block) for block in _blocks(p, logits, p, picked, noise)]
        entropy, code, mean, s = blocks[0] if len(blocks) == 1 else map(torch.cat, zip(*blocks, strict=True))
        ctx.save_for_backward(p, noise, s, mean, picked, book)
        ctx.set_materialize_grads(False)
        return entropy, code

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_entropy: Tensor | None, of_code: Tensor | None) -> tuple[Tensor | None, ...]:
        p, noise, s, mean, picked, book = ctx.saved_tensors
        if of_code is None and of_entropy is None:
            return None, None, None, None
        grad = torch.empty_like(p)
        g = None if of_code is None else of_code / s
        share = None if of_entropy is None else (of_entropy / p.shape[2])[:, None, None]
        for block in _blocks(p, grad, p, noise, g, mean, share, picked):
            _backward(book, *block)
        return grad, None, None, None


def _blocks(like_BKD: Tensor, *tensors: Tensor | None) -> list[tuple[Any, ...]]:
    """The tensors in blocks of as many rows as BLOCK numbers of `like` are; as they are on a GPU, or if compiled."""
    rows = max(1, BLOCK // like_BKD[0].numel())
    if len(like_BKD) <= rows or like_BKD.device.type != "cpu" or torch.compiler.is_compiling():
        return [tensors]
    count = -(-len(like_BKD) // rows)
    return list(zip(*((None,) * count if x is None else x.split(rows) for x in tensors), strict=True))


def _forward(summing: Tensor, logits: Tensor, p: Tensor, picked: Tensor, noise: Tensor | None) -> tuple[Tensor, ...]:
    """Fills `p`. (entropy (B,), the code drawn, its mean, s)."""
    torch.softmax(logits, 1, out=p)
    entropy = -p.gather(1, picked).clamp_min(torch.finfo(p.dtype).tiny).log().mean((1, 2))
    u = p if noise is None else p / noise
    mean, s = _weighted(summing, u)
    code = mean
    if noise is not None:
        code, _ = _weighted(summing, torch.eq(u, u.amax(1, keepdim=True), out=torch.empty_like(u)))
    return entropy, code, mean, s


def _backward(
    book: Tensor,
    grad: Tensor,
    p: Tensor,
    noise: Tensor | None,
    g: Tensor | None,
    mean: Tensor,
    share: Tensor | None,
    picked: Tensor,
) -> None:
    """Fills `grad`; `g` = gradient of the code / s, `share` = gradient of the entropy / D."""
    if g is None:
        grad.zero_()
    else:
        torch.matmul(book, g, out=grad)
        grad -= (g * mean).sum(1, keepdim=True)
        grad *= p
        if noise is not None:
            grad /= noise
    if share is not None:
        grad.addcmul_(p, share)
        grad.scatter_add_(1, picked, -share.expand_as(picked))


def _weighted(summing: Tensor, weight_BKD: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the codes (B, C, D) by weight, and the sum of the weights (B, 1, D), in one product: `summing`
    (C + 1, K) has the codes in its columns, and ones below."""
    both = summing @ weight_BKD
    total = both[:, -1:]
    return both[:, :-1] / total, total
