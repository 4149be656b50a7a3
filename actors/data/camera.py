"""Camera motion as one of 11 x 11 bins, fine near zero: the mu-law of VPT (Baker et al. 2022, arXiv 2206.11795)."""

from __future__ import annotations

import numpy as np

BINS, MAX_DEGREES, MU = 11, 10.0, 10.0
_HALF = BINS // 2


def to_bins(degrees: np.ndarray) -> np.ndarray:
    """Degrees (..., any) -> bins 0 to 10, int64; 5 is no motion. Beyond 10 degrees it is the outermost bin."""
    share = np.clip(np.asarray(degrees, np.float64), -MAX_DEGREES, MAX_DEGREES) / MAX_DEGREES
    bent = np.sign(share) * np.log1p(MU * np.abs(share)) / np.log1p(MU)
    return np.rint(bent * _HALF + _HALF).astype(np.int64)


def to_degrees(bins: np.ndarray) -> np.ndarray:
    """The degrees that a bin stands for, float64: an odd function of `bins - 5`."""
    bent = (np.asarray(bins, np.float64) - _HALF) / _HALF
    return np.sign(bent) * MAX_DEGREES * ((1 + MU) ** np.abs(bent) - 1) / MU


def joint(pitch: int, yaw: int) -> int:
    """One number 0 to 120 for both."""
    return int(pitch) * BINS + int(yaw)
