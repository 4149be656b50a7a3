"""Mean figures of a slice of updates, without waiting for the device at each of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from learners.system import Metrics


class Meter:
    """Means by name; a metric that is absent from some updates, or NaN there, is averaged over the others."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        for name, value in metrics.items():
            value = torch.as_tensor(value).detach().double()
            there = ~value.isnan()
            self._sums[name] = self._sums.get(name, 0.0) + torch.where(there, value, 0.0)
            self._counts[name] = self._counts.get(name, 0) + there

    def means(self) -> Metrics:
        return {name: float(total / self._counts[name]) for name, total in self._sums.items()}
