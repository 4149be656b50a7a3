"""Numbers as a reader wants them: few digits, a true minus sign, intervals in brackets."""

from __future__ import annotations

import math

from distwm.statistics import Interval


def number(value: float | None, like: float | None = None) -> str:
    """About three significant digits of `value`, or as many decimals as suit `like`: 0.0123, 1.23, 12.3, 123."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value if like is None else like)
    magnitude = 1 if size == 0 else math.floor(math.log10(size)) + 1
    text = f"{value:.{min(max(3 - magnitude, 0), 5)}f}" if magnitude > -3 else f"{value:.1e}"
    return text.replace("-", "−")


def mean_and_ends(interval: Interval, sign: bool = False) -> tuple[str, str]:
    """The mean (with its sign) and "[low, high]", all with the same decimals; no ends where there is no interval."""
    size = max((abs(x) for x in (interval.mean, interval.low, interval.high) if math.isfinite(x)), default=0.0)
    mean, low, high = (number(x, like=size) for x in (interval.mean, interval.low, interval.high))
    plus = "+" if sign and interval.mean > 0 else ""
    return f"{plus}{mean}", f"[{low}, {high}]" if math.isfinite(interval.low) else "[no interval]"


def gain_text(interval: Interval) -> str:
    """+3.1 [1.2, 5.0]"""
    return " ".join(mean_and_ends(interval, sign=True))


def chance(p: float) -> str:
    """A p value with three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """0.4 s, 45 s, 12 min 30 s, 1 h 05 min."""
    if seconds < 9.5:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
