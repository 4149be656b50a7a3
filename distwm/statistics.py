"""Intervals for returns: of a mean, of paired gains, of several training seeds, of a share. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Values = Sequence[float] | np.ndarray

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and where it lies with 95% confidence. Without enough data the ends are infinite."""

    mean: float
    low: float
    high: float
    count: int  # of what was averaged

    @property
    def above_zero(self) -> bool:
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        return self.high < 0


def t_interval(values: Values) -> Interval:
    """Mean and Student's t interval, mean -+ t(n - 1) s / sqrt(n). One value alone has an infinite one.

    Over the paired differences of two policies' episodes it speaks of new episodes, not of policies trained again.
    Raises ValueError without values.
    """
    x = _finite(values)
    if len(x) == 1:
        return Interval(mean=float(x[0]), low=-np.inf, high=np.inf, count=1)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(mean=float(x.mean()), low=float(x.mean() - half), high=float(x.mean() + half), count=len(x))


def difference_interval(ours: Values, theirs: Values) -> Interval:
    """Mean of `ours` minus that of `theirs`, which are not paired, and Welch's t interval (1947); infinite where a side
    has one value alone. `count` is the smaller side's."""
    x, y = _finite(ours), _finite(theirs)
    mean, count = float(x.mean() - y.mean()), min(len(x), len(y))
    if count == 1:
        return Interval(mean=mean, low=-np.inf, high=np.inf, count=1)
    spreads = [side.var(ddof=1) / len(side) for side in (x, y)]
    total = sum(spreads)
    if total == 0:
        return Interval(mean=mean, low=mean, high=mean, count=count)
    freedom = total**2 / sum(v**2 / (len(side) - 1) for v, side in zip(spreads, (x, y), strict=True))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(total))
    return Interval(mean=mean, low=mean - half, high=mean + half, count=count)


def bootstrap_interval(values: Values, seed: int = 0) -> Interval:
    """Mean and percentile bootstrap (Efron 1979). Too narrow below about 20 values; then the t interval is better."""
    x = _finite(values)
    rng = np.random.default_rng(seed)
    means = x[rng.integers(len(x), size=(RESAMPLES, len(x)))].mean(1)
    return _percentiles(float(x.mean()), means, len(x))


def sign_flip_p(differences: Values, seed: int = 0) -> float:
    """Two-sided p of a permutation test: how often random signs give a mean difference as far from zero."""
    d = _finite(differences)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (RESAMPLES, len(d)))
    as_far = np.abs((signs * d).mean(1)) >= abs(d.mean()) - 1e-12
    return float((1 + as_far.sum()) / (1 + RESAMPLES))


def hierarchical_gain(gains: Sequence[Values], seed: int = 0) -> Interval:
    """Mean over training seeds of each seed's mean gain; bootstrap over the seeds, then over the episodes of each.

    `gains[s]` holds the paired differences of training seed s. Raises ValueError for fewer than two seeds: nothing can
    be said then about training again.
    """
    if len(gains) < 2:
        raise ValueError("an interval over training seeds needs at least two of them")
    rng = np.random.default_rng(seed)
    # Means of resampled episodes, by training seed; resampling the seeds then picks rows, anew for each place.
    means = np.stack([[_resampled(_finite(g), rng) for g in gains] for _ in gains])  # (place, seed, RESAMPLES)
    picked = rng.integers(len(gains), size=(len(gains), RESAMPLES))
    drawn = np.take_along_axis(means, picked[:, None], axis=1)[:, 0].mean(0)
    return _percentiles(float(np.mean([np.mean(g) for g in gains])), drawn, len(gains))


def over_seeds(gains: Sequence[Values]) -> Interval:
    """t interval over training seeds, each counted by its mean gain: the cautious one when there are few."""
    return t_interval([float(np.mean(_finite(g))) for g in gains])


def wilson_interval(successes: int, count: int) -> Interval:
    """A share and its Wilson score interval (Wilson 1927), which stays inside [0, 1]."""
    found = stats.binomtest(successes, count).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(mean=successes / count, low=float(found.low), high=float(found.high), count=count)


def _resampled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x[rng.integers(len(x), size=(RESAMPLES, len(x)))].mean(1)


def _percentiles(mean: float, drawn: np.ndarray, count: int) -> Interval:
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(mean=mean, low=float(low), high=float(high), count=count)


def _finite(values: Values) -> np.ndarray:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError("give a list of finite numbers")
    return x
