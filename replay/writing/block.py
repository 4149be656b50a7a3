"""Several steps as one array a field: quicker to check and to copy than one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

import numpy as np

_KIND = attrgetter("dtype", "shape")
Layout = Sequence[tuple[str, np.dtype, tuple[int, ...]]]  # name, dtype and shape of each field


def block(layout: Layout, steps: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray] | None:
    """(T, *shape) by field name, if every step surely has these fields alone, of these dtypes and shapes, all finite.
    None, also for no steps, proves nothing."""
    if set(map(len, steps)) != {len(layout)}:
        return None
    found = {}
    for name, dtype, shape in layout:
        arrays = [step.get(name) for step in steps]
        if set(map(type, arrays)) != {np.ndarray} or set(map(_KIND, arrays)) != {(dtype, shape)}:
            return None
        found[name] = np.array(arrays)
        if dtype.kind == "f" and not np.isfinite(found[name]).all():
            return None
    return found
