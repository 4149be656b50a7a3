"""Spaces as plain data, whichever of gym's descendants they come from; runs on Python 3.8 and numpy alone.

box: shape, dtype, low, high. discrete: n, start. multidiscrete: nvec. multibinary: shape. dict: names, spaces.
tuple: spaces. A guest without such a package writes this plain data itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Plain = dict[str, Any]


def box(low: Any, high: Any, shape: Sequence[int], dtype: Any) -> Plain:
    return {"kind": "box", "low": low, "high": high, "shape": list(shape), "dtype": np.dtype(dtype).str}


def fields(**spaces: Plain) -> Plain:
    """A dict of spaces, in the order in which they are given."""
    return {"kind": "dict", "names": list(spaces), "spaces": list(spaces.values())}


def describe(space: Any) -> Plain:
    """Plain data as it is, a space of gym or gymnasium by the name of its class. Raises TypeError for another thing."""
    if isinstance(space, dict) and "kind" in space:
        return space
    kind = type(space).__name__
    if kind == "Box":
        return box(_even(space.low), _even(space.high), space.shape, space.dtype)
    if kind == "Discrete":
        return {"kind": "discrete", "n": int(space.n), "start": int(getattr(space, "start", 0))}
    if kind == "MultiDiscrete":
        return {"kind": "multidiscrete", "nvec": np.asarray(space.nvec, np.int64)}
    if kind == "MultiBinary":
        return {"kind": "multibinary", "shape": list(space.shape)}
    if kind == "Dict":
        return fields(**{name: describe(one) for name, one in space.spaces.items()})
    if kind == "Tuple":
        return {"kind": "tuple", "spaces": [describe(one) for one in space.spaces]}
    raise TypeError(f"a space of the kind {kind} does not travel")


def array_fields(plain: Plain) -> list[tuple[str, list[int], str]]:
    """Name, shape and dtype of each field of an observation. Raises TypeError unless it is a dict of arrays."""
    if plain["kind"] != "dict":
        raise TypeError(f"observations are a dict of named fields, not a {plain['kind']}")
    return [(name, *_array(name, space)) for name, space in zip(plain["names"], plain["spaces"])]  # noqa: B905 (Python 3.8)


def action_fields(plain: Plain) -> list[tuple[str, list[int], str]]:
    """An action's one field if it is an array, which then travels in shared memory; none if it is anything else."""
    return [("action", *_array("action", plain))] if plain["kind"] == "box" else []


def restore(value: Any, plain: Plain) -> Any:
    """An action of the space, as its environment expects it, from what came over the wire."""
    kind = plain["kind"]
    if kind == "tuple":
        return tuple(restore(one, space) for one, space in zip(value, plain["spaces"]))  # noqa: B905
    if kind == "dict":
        return {name: restore(value[name], space) for name, space in zip(plain["names"], plain["spaces"])}  # noqa: B905
    return value


def portable(info: Any) -> dict[str, Any]:
    """What of an info dict is plain data: numbers, words, arrays of numbers, dicts of such by name."""
    return {str(name): value for name, value in info.items() if _is_portable(value)}


def _is_portable(value: Any) -> bool:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind in "biuf"
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_portable(one) for name, one in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def _array(name: str, plain: Plain) -> tuple[list[int], str]:
    kind = plain["kind"]
    if kind == "box":
        return list(plain["shape"]), plain["dtype"]
    if kind == "discrete":
        return [], "<i8"
    if kind == "multidiscrete":
        return [len(plain["nvec"])], "<i8"
    if kind == "multibinary":
        return list(plain["shape"]), "|i1"
    raise TypeError(f"the field {name} is a {kind}; observations are a dict of arrays")


def _even(bound: np.ndarray) -> Any:
    """The one value that fills a bound, or the bound."""
    first = bound.flat[0].item() if bound.size else 0.0
    return first if bound.size == 0 or (bound == first).all() else bound
