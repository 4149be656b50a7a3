"""Several steps as one array a field: quicker to check and to copy than one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter, itemgetter

import numpy as np

Layout = Sequence[tuple[str, np.dtype, tuple[int, ...]]]  # name, dtype and shape of each field

_dtype = attrgetter("dtype")


def block(layout: Layout, steps: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray] | None:
    """(T, *shape) by field name, if every step surely has these fields alone, of these dtypes and shapes, all finite.
    None, also for no steps, proves nothing."""
    if set(map(len, steps)) != {len(layout)}:
        return None
    try:
        columns = zip(*map(itemgetter(*(name for name, _, _ in layout)), steps), strict=True)
        found = [_column(arrays, dtype, shape) for (_, dtype, shape), arrays in zip(layout, columns, strict=True)]
    except (KeyError, AttributeError, ValueError):
        return None
    return {name: array for (name, _, _), array in zip(layout, found, strict=True)}


def _column(arrays: Sequence[np.ndarray], dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Raises AttributeError for what is no array, ValueError for other dtypes or shapes and for what is not finite."""
    column = np.array(arrays)  # of different shapes: ValueError
    if set(map(_dtype, arrays)) != {dtype} or column.shape[1:] != shape:
        raise ValueError
    if dtype.kind == "f" and not np.isfinite(column).all():
        raise ValueError
    return column
