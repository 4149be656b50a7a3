"""Whether an error is below its gate, as far as the episodes that were looked at can tell.

Shapes: N chunks, E episodes, R resamples.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Verdict = Literal["validated", "not shown", "refuted"]
FEWEST_EPISODES = 8  # resampled, fewer have intervals that are far too narrow
SCORES = {"validated": 1.0, "not shown": 0.0, "refuted": -1.0}


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


class Hypothesis(NamedTuple):
    name: str
    gate: float  # the error is said to be below it
    interval: Interval
    verdict: Verdict
    reason: str = ""  # why there is no other verdict, where its interval is not the reason

    def __str__(self) -> str:
        mean, low, high = self.interval
        words = "hypothesis validated" if self.verdict == "validated" else self.verdict
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.name}: {mean:.3g} in [{low:.3g}, {high:.3g}], gate {self.gate:g}: {words}{why}"


def bootstrap(
    errors_N: np.ndarray, episode_N: np.ndarray, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean over chunks, and a percentile interval over resampled *episodes*: chunks of one are not independent.

    One episode has no interval: its bounds are infinite.
    """
    numbers, index = np.unique(episode_N, return_inverse=True)
    sums = np.bincount(index, weights=errors_N)
    counts = np.bincount(index).astype(np.float64)
    mean = float(sums.sum() / counts.sum())
    if len(numbers) < 2:
        return Interval(mean, -np.inf, np.inf)
    drawn = np.random.default_rng(seed).integers(len(numbers), size=(resamples, len(numbers)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high))


def verdict(interval: Interval, gate: float) -> Verdict:
    """Validated only where the whole interval lies below the gate, refuted only where all of it lies at or above."""
    if interval.high < gate:
        return "validated"
    return "refuted" if interval.low >= gate else "not shown"


def examine(
    name: str, errors_N: np.ndarray, episode_N: np.ndarray, gate: float, confidence: float = 0.95, resamples: int = 2000
) -> Hypothesis:
    """Nothing is shown, and nothing refuted, by fewer than FEWEST_EPISODES."""
    interval, episodes = bootstrap(errors_N, episode_N, confidence, resamples), len(np.unique(episode_N))
    if episodes < FEWEST_EPISODES:
        reason = f"held-out episodes: {episodes}, a verdict takes {FEWEST_EPISODES}"
        return Hypothesis(name, gate, interval, "not shown", reason)
    return Hypothesis(name, gate, interval, verdict(interval, gate))
