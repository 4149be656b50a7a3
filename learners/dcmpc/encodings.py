"""What a state is written in: FSQ codes, or one of the encodings that it is compared with.

Shapes: R raw numbers and C numbers of a code for each of D latent dimensions, K codes. Both come in front of D.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from learners.nn.fsq import FSQ, Quantised

EncodingName = Literal["fsq", "vq", "onehot", "continuous", "simnorm"]


class Encoding(Protocol):
    raw: int  # R
    width: int  # C
    count: int  # K; 0 where there are no discrete codes

    def __call__(self, x: Tensor) -> Quantised:
        """Raw (..., R, D) -> codes (..., C, D); gradients pass through."""
        ...

    def book(self) -> Tensor:
        """The codes (K, C) by index, without gradients."""
        ...

    def loss(self, x: Tensor) -> Tensor:
        """What the encoding itself has to learn from raw (..., R, D). Scalar."""
        ...


class FiniteScalar(FSQ):
    """DC-MPC's own: fixed codes on a grid, in order."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__(levels)
        self.raw = self.width = len(levels)
        self.count = len(self.codebook)

    def book(self) -> Tensor:
        return self.codebook

    def loss(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


class Vector(nn.Module):
    """VQ: the nearest of K learnt codes (van den Oord et al. 2017), shared by all latent dimensions."""

    def __init__(self, codes: int, width: int, commitment: float = 0.25) -> None:
        super().__init__()
        self.count, self.raw, self.width, self.commitment = codes, width, width, commitment
        self.codebook = nn.Parameter(torch.empty(codes, width).uniform_(-1, 1))

    def forward(self, x: Tensor) -> Quantised:
        index = self._nearest(x)
        code = self._look_up(index, self.book())
        return Quantised(code + (x - x.detach()) if x.requires_grad else code, index)

    def book(self) -> Tensor:
        return self.codebook.detach()

    def loss(self, x: Tensor) -> Tensor:
        """Codes move to what is encoded, and what is encoded keeps to its code."""
        code = self._look_up(self._nearest(x), self.codebook)
        moves, keeps = (code - x.detach()).square().mean(), (code.detach() - x).square().mean()
        return moves + self.commitment * keeps

    def _nearest(self, x: Tensor) -> Tensor:
        """argmin |x - c|^2 = argmax 2 x.c - |c|^2."""
        book = self.book()
        return (2 * (book @ x.detach()) - book.square().sum(1, keepdim=True)).max(-2).indices

    @staticmethod
    def _look_up(index: Tensor, book: Tensor) -> Tensor:
        return nn.functional.embedding(index, book).movedim(-1, -2)


class OneHot(nn.Module):
    """Codes without order: the largest of K raw numbers, as a one-hot vector; gradients go through the softmax."""

    identity: Tensor

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.count = self.raw = self.width = codes
        self.register_buffer("identity", torch.eye(codes), persistent=False)

    def forward(self, x: Tensor) -> Quantised:
        index = x.detach().max(-2).indices
        code = nn.functional.one_hot(index, self.count).movedim(-1, -2).to(x.dtype)
        if x.requires_grad:
            soft = x.softmax(-2)
            code = code + (soft - soft.detach())
        return Quantised(code, index)

    def book(self) -> Tensor:
        return self.identity

    def loss(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


class Continuous(nn.Module):
    """Raw numbers as they are, or, with `groups`, as softmaxes over groups of that many (SimNorm, TD-MPC2)."""

    count = 0

    def __init__(self, width: int, groups: int = 0) -> None:
        super().__init__()
        self.raw = self.width = width
        self.groups = groups

    def forward(self, x: Tensor) -> Quantised:
        if not self.groups:
            return Quantised(x, None)
        grouped = x.flatten(-2).unflatten(-1, (-1, self.groups)).softmax(-1)
        return Quantised(grouped.flatten(-2).unflatten(-1, x.shape[-2:]), None)

    def book(self) -> Tensor:
        raise TypeError("there are no codes in a continuous encoding")

    def loss(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


def make(name: EncodingName, levels: tuple[int, ...]) -> FiniteScalar | Vector | OneHot | Continuous:
    """All have as many codes as FSQ with these levels, or as many numbers a latent dimension."""
    codes = math.prod(levels)
    match name:
        case "fsq":
            return FiniteScalar(levels)
        case "vq":
            return Vector(codes, len(levels))
        case "onehot":
            return OneHot(codes)
        case "continuous":
            return Continuous(len(levels))
        case "simnorm":
            return Continuous(len(levels), groups=8)
