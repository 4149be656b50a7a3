"""Numpy arrays as columns of a parquet table, and back, bit by bit."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from replay.lerobot.format import IMAGE_TYPE, Column


class BadColumn(Exception):
    """A column does not hold what it should; `row` counts from 0 in the table given, or is None for all of it."""

    def __init__(self, column: str, row: int | None, reason: str) -> None:
        super().__init__(f"column {column!r}: {reason}")
        self.row = row


def to_arrow(column: Column, values: np.ndarray) -> pa.Array:
    """A column of (T, *shape) values."""
    if column.kind == "image":
        return pa.array([{"bytes": content, "path": None} for content in map(_png, values)], IMAGE_TYPE)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if len(column.shape) == 1:
        return pa.FixedSizeListArray.from_arrays(flat, column.shape[0])
    for axis in range(len(column.shape), 0, -1):
        size, rows = column.shape[axis - 1], len(values) * math.prod(column.shape[: axis - 1])
        flat = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * size), flat)
    return flat


def to_numpy(column: Column, data: pa.ChunkedArray, shape: tuple[int, ...]) -> np.ndarray:
    """(T, *shape) values of a column that is no image. It says what type they are, as info.json does: numbers that are
    stored as others of their kind are cast. Raises BadColumn."""
    rows, array = len(data), data.combine_chunks()
    while pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type) or pa.types.is_large_list(array.type):
        _no_nulls(column, array)
        array = array.flatten()
    _no_nulls(column, array)
    if len(array) != rows * math.prod(shape):
        raise BadColumn(column.name, None, f"{len(array)} numbers in {rows} frames of shape {shape}")
    try:
        values = array.to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadColumn(column.name, None, str(error)) from error
    if not np.can_cast(values.dtype, column.dtype, "same_kind"):
        raise BadColumn(column.name, None, f"it holds {values.dtype}, not {column.dtype}")
    return np.ascontiguousarray(values, column.dtype).reshape(rows, *shape)


def decode_images(column: str, contents: Sequence[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """(T, H, W, C) uint8. Raises BadColumn for the first that is no picture of that shape."""
    out = np.empty((len(contents), *shape), np.uint8)
    for row, content in enumerate(contents):
        out[row] = _decoded(column, row, content, shape)
    return out


def _decoded(column: str, row: int, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W, C) uint8. Raises BadColumn unless it is a picture of that shape."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            height, width = opened.height, opened.width
            if (height, width) != shape[:2]:
                raise BadColumn(column, row, f"a picture of {height}x{width} pixels, not {shape[0]}x{shape[1]}")
            mode = "L" if shape[2] == 1 else "RGB"
            array = np.asarray(opened if opened.mode == mode else opened.convert(mode))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadColumn(column, row, f"no picture that can be read ({error})") from error
    return array.reshape(shape)


def _png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _no_nulls(column: Column, array: pa.Array) -> None:
    if array.null_count:
        raise BadColumn(column.name, None, f"{array.null_count} values are missing")
