"""Spaces of gymnasium from the plain data that travels (actors/hosting/plain.py)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from gymnasium import spaces


def build(plain: dict[str, Any]) -> spaces.Space:
    """Raises ValueError for a kind that is unknown."""
    kind = plain["kind"]
    if kind == "box":
        dtype: Any = np.dtype(plain["dtype"]).type
        return spaces.Box(plain["low"], plain["high"], tuple(plain["shape"]), dtype)
    if kind == "discrete":
        return spaces.Discrete(plain["n"], start=plain["start"])
    if kind == "multidiscrete":
        return spaces.MultiDiscrete(plain["nvec"])
    if kind == "multibinary":
        shape = plain["shape"]
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    if kind == "dict":  # ordered, or gymnasium sorts it
        return spaces.Dict(OrderedDict(zip(plain["names"], map(build, plain["spaces"]), strict=True)))
    if kind == "tuple":
        return spaces.Tuple([build(one) for one in plain["spaces"]])
    raise ValueError(f"an unknown kind of space: {kind!r}")
