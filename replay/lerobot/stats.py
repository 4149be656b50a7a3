"""Statistics as LeRobot keeps them: of an episode, and merged over episodes. Pure functions of numpy arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

Stats = Mapping[str, np.ndarray]

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def array_stats(columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Of (T, *shape) numbers by column: min, max, mean, std, quantiles, each (*shape) or (1,) float64; count (1,)."""
    rows = np.concatenate([np.asarray(v, np.float64).reshape(len(v), -1) for v in columns.values()], axis=1)
    with np.errstate(over="ignore"):
        whole = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    whole |= dict(zip(QUANTILES, np.quantile(rows, [*QUANTILES.values()], axis=0), strict=True))
    stats, begin = {}, 0
    for name, values in columns.items():
        shape = values.shape[1:] or (1,)
        end = begin + math.prod(shape)
        stats[name] = {key: value[begin:end].reshape(shape) for key, value in whole.items()}
        stats[name]["count"] = np.array([len(values)])
        begin = end
    return stats


def image_stats(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Of (T, H, W, C) uint8 pictures, by channel and in [0, 1]: each (C, 1, 1) float64; count (1,) of pictures."""
    counts = np.stack([np.bincount(c.ravel(), minlength=256) for c in np.moveaxis(frames, -1, 0)])
    levels, total = np.arange(256) / 255, counts.sum(1)
    mean = counts @ levels / total
    std = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    reached = np.cumsum(counts, axis=1) / total[:, None]
    stats = {"min": levels[(counts > 0).argmax(1)], "max": levels[255 - (counts[:, ::-1] > 0).argmax(1)]}
    stats |= {"mean": mean, "std": std} | {name: levels[(reached >= q).argmax(1)] for name, q in QUANTILES.items()}
    return {name: value.reshape(-1, 1, 1) for name, value in stats.items()} | {"count": np.array([len(frames)])}


def merged(one: Stats, other: Stats) -> dict[str, np.ndarray]:
    """Of both together: exact but for the quantiles, which are means weighted by the counts."""
    n, m = one["count"][0], other["count"][0]
    share = m / (n + m)
    between = other["mean"] - one["mean"]
    with np.errstate(over="ignore"):
        variance = one["std"] ** 2 * (1 - share) + other["std"] ** 2 * share + between**2 * share * (1 - share)
    stats = {name: one[name] * (1 - share) + other[name] * share for name in ("mean", *QUANTILES)}
    stats |= {"min": np.minimum(one["min"], other["min"]), "max": np.maximum(one["max"], other["max"])}
    return stats | {"std": np.sqrt(variance), "count": np.array([n + m])}
