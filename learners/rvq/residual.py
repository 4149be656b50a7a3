"""Residual vector quantisation (Zeghidour et al. 2021, SoundStream): each layer codes what those before it left.

Shapes: N vectors of D numbers, L layers, K codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from learners.rvq.quantizer import Quantised, QuantizerConfig, VectorQuantizer
from learners.rvq.statistics import Statistics
from replay.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualConfig:
    num_layers: int = 8
    dropout: float = 0.1  # share of the rows of a training step that are coded to a random depth only
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        if self.num_layers < 1 or not 0 <= self.dropout <= 1:
            raise BadInput(f"{self} cannot be.", "Give num_layers from 1 and a dropout in [0, 1].")


class ResidualVectorQuantizer(nn.Module):
    """A sum of one code of each layer; the first few of them are a coarser code of the same vector."""

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(VectorQuantizer(config.quantizer) for _ in range(config.num_layers))

    @property
    def quantizers(self) -> list[VectorQuantizer]:
        return [cast(VectorQuantizer, layer) for layer in self.layers]

    @property
    def ready(self) -> bool:
        return all(bool(layer.ready) for layer in self.quantizers)

    @torch.no_grad()
    def initialise(self, x_ND: Tensor, generator: torch.Generator, iterations: int = 20) -> None:
        """k-means, layer by layer, of what the layers before left."""
        residual = x_ND.float()
        for layer in self.quantizers:
            residual = residual - layer.look_up(layer.initialise(residual, generator, iterations))

    def forward(self, x: Tensor, depth: Tensor | None = None) -> Quantised:
        """Vectors (..., D) -> their sum of codes; codes (..., L).

        `depth` (...) int64 in 1..L: how many layers code each vector; all of them if not given. Codes beyond the depth
        are given all the same, but neither decoded nor counted. The commitment is the mean over layers of the mean
        squared distance to what is decoded up to there.
        """
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):  # nearest of 256 wants all its digits
            flat = x.detach().float().flatten(0, -2)
            depth_N = None if depth is None else depth.flatten()
            found = self._descend(flat, depth_N)
        commitment = found.value + ((x - x.detach()) * found.pull.view(x.shape)).sum()
        vectors = x + (found.decoded.view(x.shape) - x).detach()
        return Quantised(vectors, found.codes.view(*x.shape[:-1], self.config.num_layers), commitment, found.statistics)

    @torch.no_grad()
    def encode(self, x: Tensor, layers: int | None = None) -> Tensor:
        """(..., D) -> (..., layers) int64."""
        residual, codes = x.float().flatten(0, -2), []
        for layer in self.quantizers[: self.depth(layers)]:
            codes.append(layer.nearest(residual))
            residual = residual - layer.look_up(codes[-1])
        return torch.stack(codes, -1).view(*x.shape[:-1], len(codes))

    @torch.no_grad()
    def decode(self, codes: Tensor, layers: int | None = None) -> Tensor:
        """(..., l) int64, l <= L -> (..., D): the sum of the codes of the first `layers` (of all that are given)."""
        used = self.depth(codes.shape[-1] if layers is None else min(layers, codes.shape[-1]))
        found = self.quantizers[0].look_up(codes[..., 0])
        for number in range(1, used):
            found = found + self.quantizers[number].look_up(codes[..., number])
        return found

    def depth(self, layers: int | None) -> int:
        """How many layers are meant. Raises BadInput for a number that there is not."""
        count = self.config.num_layers
        if layers is None:
            return count
        if not 1 <= layers <= count:
            raise BadInput(f"There are no {layers} layers.", f"Ask for 1 to {count}.")
        return layers

    def update(self, statistics: Sequence[Statistics]) -> None:
        """The layers follow what was counted: here, or on all workers after `statistics.merge`."""
        for layer, counted in zip(self.quantizers, statistics, strict=True):
            layer.update(counted)

    def _descend(self, x_ND: Tensor, depth_N: Tensor | None) -> _Descent:
        residual, decoded, pull = x_ND, torch.zeros_like(x_ND), torch.zeros_like(x_ND)
        value, codes, statistics = x_ND.new_zeros(()), [], []
        for number, layer in enumerate(self.quantizers):
            index = layer.nearest(residual)
            active = None if depth_N is None else (depth_N > number).float()
            if self.training:
                statistics.append(layer.statistics(residual, index, active))
            code = layer.look_up(index)
            code = code if active is None else code * active[:, None]
            residual, decoded = residual - code, decoded + code
            left = residual if active is None else residual * active[:, None]
            value, pull = value + left.square().sum(), pull + left
            codes.append(index)
        terms = max(len(codes) * x_ND.numel(), 1)
        return _Descent(decoded, torch.stack(codes, -1), value / terms, pull * (2 / terms), statistics)


@dataclass(slots=True)
class _Descent:
    decoded: Tensor  # (N, D)
    codes: Tensor  # (N, L)
    value: Tensor  # of the commitment
    pull: Tensor  # (N, D), its gradient: a sum over layers, so that no graph has to hold each of them
    statistics: list[Statistics]


def depths(rows: int, layers: int, dropout: float, generator: torch.Generator) -> Tensor | None:
    """(rows,) int64: with probability `dropout` uniform in 1..layers, else all of them. None if there is no dropout."""
    if not dropout:
        return None
    device = generator.device
    cut = torch.rand(rows, generator=generator, device=device) < dropout
    uniform = torch.randint(1, layers + 1, (rows,), generator=generator, device=device)
    return torch.where(cut, uniform, layers)
