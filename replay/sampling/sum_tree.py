"""Sums over blocks of 64, level upon level: finds where a running sum passes a value in a few steps."""

from __future__ import annotations

import numpy as np

FAN = 64


class SumTree:
    """The sums over an array of weights that its owner changes and reports. A level holds the sums of the blocks of the
    one below, each always summed afresh, so that rounding errors do not add up."""

    def __init__(self, weights: np.ndarray) -> None:
        """`weights` (n,) float64, none negative; n is a multiple of 64."""
        self._levels: list[np.ndarray] = [weights]
        while len(self._levels[-1]) > FAN:
            sums = self._levels[-1].reshape(-1, FAN).sum(axis=1)
            self._levels.append(np.pad(sums, (0, -len(sums) % FAN)))

    @property
    def total(self) -> float:
        return float(self._levels[-1].sum())

    def refresh(self, places: np.ndarray) -> None:
        """The weights at these places have changed."""
        for below, sums in zip(self._levels, self._levels[1:], strict=False):
            places = np.unique(places // FAN)
            sums[places] = below.reshape(-1, FAN)[places].sum(axis=1)

    def find(self, values: np.ndarray) -> np.ndarray:
        """The places (len(values),) where the running sum of the weights first exceeds each value of [0, total). No
        place without weight is found, whatever the rounding."""
        places = np.zeros(len(values), np.int64)
        for level in reversed(self._levels):
            sums = np.cumsum(level.reshape(-1, FAN)[places], axis=1)
            values = np.minimum(values, np.nextafter(sums[:, -1], 0))
            inside = (sums <= values[:, None]).sum(axis=1)
            before = np.take_along_axis(sums, np.maximum(inside - 1, 0)[:, None], axis=1)[:, 0]
            values = values - np.where(inside > 0, before, 0.0)
            places = places * FAN + inside
        return places
