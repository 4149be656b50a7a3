"""Root mean square normalisation (Zhang & Sennrich 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class RMSNorm(nn.RMSNorm):
    """torch's, but for training on a CPU: there torch has no kernel of its own, and differentiates its many parts."""

    def forward(self, x: Tensor) -> Tensor:
        own = torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype == self.weight.dtype
        if own and not torch.compiler.is_compiling():
            return _RMSNorm.apply(x, self.weight)
        return super().forward(x)


class _RMSNorm(torch.autograd.Function):
    """y = w x / rms(x). With u = x / rms(x) and p = g u: dL/dw = sum p, dL/dx = (g w - u mean(p w)) / rms(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps)
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        unit, scale, weight = ctx.saved_tensors
        product = (grad * unit).reshape(-1, len(weight))
        shared = torch.mv(product, weight).view(scale.shape)
        return torch.addcmul(grad * weight, unit, shared, value=-1 / len(weight)).mul_(scale), product.sum(0)
