"""Whether arrays are what the spec says: asked before anything enters the replay."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from replay.errors import BadInput
from replay.schema import EpisodeSpec, FieldSpec

# The arrays that may travel: plain numbers, no objects and no structures.
DTYPES = frozenset(("bool", "uint8", "uint16", "int8", "int16", "int32", "int64", "float16", "float32", "float64"))

_MEND = "Make the environment or policy produce what the episode spec says."


def check_spec(spec: EpisodeSpec) -> None:
    """Raises BadInput for a spec that the codec cannot carry."""
    names = [f.name for f in spec.fields]
    if len(set(names)) < len(names) or "reward" not in names:
        raise BadInput(f"The episode spec has the fields {names}.", "Name each field once and have a 'reward'.")
    for field in spec.fields:
        if field.dtype not in DTYPES:
            raise BadInput(f"Field {field.name!r} has dtype {field.dtype!r}.", f"Use one of {sorted(DTYPES)}.")


def check_same(spec: EpisodeSpec, theirs: list[dict[str, Any]], whose: str) -> None:
    """Raises BadInput unless the fields that were stored as JSON are those of `spec`; `whose` begins the sentence."""
    mine = {f["name"]: f for f in json.loads(json.dumps([asdict(f) for f in spec.fields]))}
    stored = {f["name"]: f for f in theirs}
    if list(mine.values()) != theirs:
        names = [n for n in {**stored, **mine} if mine.get(n) != stored.get(n)] or ["the order of the fields"]
        raise BadInput(
            f"{whose} has another episode spec: {names[0]} is {stored.get(names[0])} there and "
            f"{mine.get(names[0])} here.",
            "Use the environment settings that the run began with, or start another run.",
        )


def check_names(spec: EpisodeSpec, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raises BadInput unless `arrays` has exactly the fields of `spec`; `where` ends the sentence."""
    names = {f.name for f in spec.fields}
    if missing := sorted(names - arrays.keys()):
        raise BadInput(f"Field {missing[0]!r} is missing {where}.", _MEND)
    if unknown := sorted(arrays.keys() - names):
        raise BadInput(f"Field {unknown[0]!r} is not in the episode spec {where}.", _MEND)


def fits(dtype: np.dtype, array: object, shape: tuple[int, ...]) -> bool:
    """Whether an array is surely what `check_array` wants: quick, for every step. False proves nothing."""
    if not isinstance(array, (np.ndarray, np.generic)) or array.shape != shape or array.dtype != dtype:
        return False
    if dtype.kind != "f":
        return True
    # A sum of squares is finite only if every number is.
    return math.isfinite(np.dot(flat := array.ravel(), flat) if shape else array)


def check_array(field: FieldSpec, array: np.ndarray, shape: tuple[int, ...], where: str) -> None:
    """Raises BadInput unless `array` has this shape, the field's dtype and finite values only."""
    if array.shape != shape:
        raise BadInput(f"Field {field.name!r} has shape {array.shape}, not {shape}, {where}.", _MEND)
    if array.dtype != field.dtype:
        raise BadInput(f"Field {field.name!r} has dtype {array.dtype}, not {field.dtype}, {where}.", _MEND)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].flat[0]
        raise BadInput(f"Field {field.name!r} is {bad} {where}.", _MEND)
