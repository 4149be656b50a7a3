"""Several steps as one array a field: quicker to check and to copy than one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Layout = Sequence[tuple[str, np.dtype, tuple[int, ...]]]  # name, dtype and shape of each field


def block(layout: Layout, steps: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray] | None:
    """(T, *shape) by field name, if every step surely has these fields alone, of these dtypes and shapes, all finite.
    None, also for no steps, proves nothing."""
    if not steps or any(len(step) != len(layout) for step in steps):
        return None
    found = {}
    for name, dtype, shape in layout:
        arrays = [step.get(name) for step in steps]
        if not all(type(a) is np.ndarray and a.dtype is dtype and a.shape == shape for a in arrays):
            return None
        found[name] = np.array(arrays)
        if dtype.kind == "f" and not np.isfinite(found[name]).all():
            return None
    return found
