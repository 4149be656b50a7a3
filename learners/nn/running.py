"""Running root mean square of a loss: terms of different size are divided by it, so that one weight fits all tasks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningRMS(nn.Module):
    """loss / sqrt(running mean of loss^2), bias-corrected (Dreamer 4, section 3.4: "normalise all loss terms")."""

    mean_square: Tensor
    count: Tensor

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean_square", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))

    @torch.compiler.disable  # a compiled backward reads `count` after it was moved on, and scales the gradient wrongly
    def forward(self, loss: Tensor) -> Tensor:
        square = loss.detach().float().square()
        if self.training and torch.isfinite(square):
            self.mean_square.mul_(self.decay).add_(square, alpha=1 - self.decay)
            self.count.add_(1)
        corrected = self.mean_square / (1 - self.decay ** self.count.clamp(min=1))
        return loss / corrected.sqrt().clamp(min=1e-6)
