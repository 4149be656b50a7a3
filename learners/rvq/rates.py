"""Error against bits, for every way of coding the same chunks.

Shapes: N chunks of T steps, A numbers of an action, P points of a method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from learners.rvq.errors import Errors, squared
from learners.rvq.heldout import Layers
from learners.rvq.peers import cosines, steps
from learners.rvq.peers.coded import Coded
from learners.rvq.peers.fast import VOCABULARY, Fast, apart

Points = Mapping[str, np.ndarray]  # (P,) by figure: bits, tokens, and mse_<kind> for each kind of error
Curves = Mapping[str, Points]  # by method


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersConfig:
    dct_keep: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10)
    dct_bits: tuple[int, ...] = (6, 8, 32)
    fast_scales: tuple[float, ...] = (2.0, 4.0, 7.0, 10.0, 14.0, 20.0, 30.0)
    fast_vocabulary: int = VOCABULARY
    gripper_patterns: int = 1024  # of FAST with the gripper apart
    step_layers: int = 8
    step_codes: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What reconstructions are held against."""

    truth: np.ndarray  # (N, T, A) normalised
    scale: np.ndarray = field(repr=False)  # (A,) environment units of one normalised unit
    gripper: int | None
    lost: np.ndarray | float = field(default=0.0, repr=False)  # (N, T) of the gripper, by normalising

    def points(self, several: Iterable[Coded]) -> Points:
        rows = [(one.bits, one.tokens, *self._means(one.found)) for one in several]
        names = ("bits", "tokens", *(f"mse_{kind}" for kind in Errors._fields))
        return dict(zip(names, np.asarray(rows, np.float64).T, strict=True))

    def _means(self, found_NTA: np.ndarray) -> tuple[float, ...]:
        errors = squared(self.truth, found_NTA, self.scale, self.gripper, self.lost)
        return tuple(float(each.mean()) for each in errors)


def peers(config: PeersConfig, train_NTA: np.ndarray, against: Yardstick) -> Curves:
    """Every peer, fitted to normalised training chunks: `dct6`, `dct8`, ..., `fast`, `fast_apart` (gripper apart) and
    `steps`."""
    test, size = against.truth, against.truth.shape[1]
    keep = [count for count in config.dct_keep if count <= size]
    curves: dict[str, Points] = {
        f"dct{bits}": against.points(cosines.keep(train_NTA, test, count, bits) for count in keep)
        for bits in config.dct_bits
    }
    scales, words = sorted(config.fast_scales), config.fast_vocabulary
    curves["fast"] = against.points(Fast.fit(train_NTA, scale, words).code(test) for scale in scales)
    if (gripper := against.gripper) is not None:
        curves["fast_apart"] = against.points(
            apart(train_NTA, test, scale, words, gripper, config.gripper_patterns) for scale in scales
        )
    curves["steps"] = against.points(steps.by_layers(train_NTA, test, config.step_layers, config.step_codes))
    return curves


def points_of(layers: Layers) -> Points:
    """The points of a tokenizer."""
    arrays = layers.arrays()
    names = ("bits", "tokens", *(f"mse_{kind}" for kind in Errors._fields))
    return {name: np.asarray(arrays[name], np.float64) for name in names}


def at_most(points: Points, bits: float) -> tuple[float, float]:
    """(bits, normalised error) of the point with most bits that are not more than `bits`; nan if there is none."""
    fitting = np.flatnonzero(points["bits"] <= bits)
    if not len(fitting):
        return np.nan, np.nan
    best = fitting[np.argmax(points["bits"][fitting])]
    return float(points["bits"][best]), float(points["mse_norm"][best])


def between(points: Points, bits: float) -> float:
    """The normalised error at `bits`, the logarithm of the error being a straight line between two points; nan beyond
    the first and the last."""
    order = np.argsort(points["bits"])
    known, errors = points["bits"][order], np.maximum(points["mse_norm"][order], 1e-12)
    if not known[0] <= bits <= known[-1]:
        return np.nan
    return float(np.exp(np.interp(bits, known, np.log(errors))))


def flat(curves: Curves) -> dict[str, np.ndarray]:
    """`<method>_<figure>` -> (P,), as a report reads them."""
    return {f"{method}_{name}": values for method, points in curves.items() for name, values in points.items()}
