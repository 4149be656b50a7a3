"""Averaged weights: an exponential moving average without a memory of where training began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from replay.errors import BadInput


class EMA:
    """After N updates the average is (1 - d) sum_i d^(N - i) w_i / (1 - d^N), i = 1..N (Adam's debiasing).

    So one update gives w_1, and short stages are not drawn towards the weights that they started from.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Averages the parameters of `module` that require a gradient. Raises BadInput unless 0 < decay < 1."""
        if not 0 < decay < 1:
            raise BadInput(f"ema={decay} is no decay.", "Give a number between 0 and 1, or 0 to keep no average.")
        self.decay, self.updates = decay, 0
        self.live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.live.items()}

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        share = (1 - self.decay) / (1 - self.decay**self.updates)
        torch._foreach_lerp_(list(self.average.values()), list(self.live.values()), share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module has the averaged weights; afterwards its own ones again, whatever happens."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def keep(self) -> None:
        """The averaged weights become the module's own, if there was an update at all."""
        if self.updates:
            for name, parameter in self.live.items():
                parameter.copy_(self.average[name])

    @torch.no_grad()
    def load(self, average: Mapping[str, Tensor], updates: int) -> None:
        """Raises BadInput if `average` is of other parameters."""
        if average.keys() != self.average.keys():
            raise BadInput("The averaged weights are of other parameters.", "Use the checkpoint's own configuration.")
        for name, value in average.items():
            self.average[name].copy_(value)
        self.updates = updates

    def _swap(self) -> None:
        """Exchanges storage, which needs no memory for a third copy."""
        if self.updates:
            for name, parameter in self.live.items():
                parameter.data, self.average[name] = self.average[name], parameter.data
