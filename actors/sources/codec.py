"""openpi's wire format: msgpack in which arrays and numpy's numbers are maps with keys of bytes.

    array   {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [10, 7]}
    number  {b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}

Byte for byte what `openpi_client.msgpack_numpy` (openpi-client 0.1.2) makes. Objects, structures and complex numbers do
not travel: nothing that is read here can run code, and no array is larger than the bytes that came for it.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

from actors.sources.errors import BadAnswer

KINDS = "biufSU"  # of dtypes: bool, int, unsigned, float, bytes, text
MAX_BYTES = 2**26  # of one message that is taken
MAX_DIMS = 8


class BadFrame(BadAnswer):
    """Bytes that are not this format."""


def pack(value: Any) -> bytes:
    """Raises TypeError for what does not travel."""
    packed: bytes = msgpack.packb(value, default=_out)
    return packed


def unpack(data: bytes) -> Any:
    """Arrays are views of `data`, so they cannot be written to. Raises BadFrame."""
    if len(data) > MAX_BYTES:
        raise BadFrame(f"The message has {len(data)} bytes.", f"Send at most {MAX_BYTES}.")
    try:
        return msgpack.unpackb(data, object_hook=_in, ext_hook=_no_extension)
    except (ValueError, TypeError, OverflowError, RecursionError, AttributeError, SyntaxError) as error:
        words = (str(error).splitlines() or [""])[0]
        raise BadFrame(
            f"These {len(data)} bytes, which begin with {bytes(data[:16]).hex()}, are no message: "
            f"{words or type(error).__name__}.",
            "Speak openpi's protocol: msgpack with arrays as openpi-client packs them.",
        ) from error


def _out(value: Any) -> Any:
    """What msgpack cannot pack by itself."""
    if isinstance(value, (np.ndarray, np.generic)) and not _travels(value.dtype):
        raise TypeError(f"{value.dtype} does not travel")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} does not travel")


def _in(found: dict[Any, Any]) -> Any:
    """Raises ValueError, or what numpy raises for bad words."""
    if b"__ndarray__" in found:
        return _array(found.get(b"data"), _dtype(found.get(b"dtype")), found.get(b"shape"))
    if b"__npgeneric__" in found:
        dtype, data = _dtype(found.get(b"dtype")), found.get(b"data")
        if not isinstance(data, (bool, int, float, str, bytes)) or (isinstance(data, str) and dtype.kind != "U"):
            raise ValueError(f"a number of {dtype} cannot be {type(data).__name__}")
        return dtype.type(data)
    return found


def _array(data: Any, dtype: np.dtype, shape: Any) -> np.ndarray:
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > MAX_DIMS:
        raise ValueError("an array needs bytes and a shape")
    if not all(type(size) is int and 0 <= size <= MAX_BYTES for size in shape):
        raise ValueError(f"no array has the shape {shape}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes are no array of {dtype} and shape {shape}")
    return np.ndarray(shape, dtype, data)


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or len(name) > 16:
        raise ValueError("an array needs a dtype")
    dtype = np.dtype(name)
    if not _travels(dtype):
        raise ValueError(f"{dtype} does not travel")
    return dtype


def _travels(dtype: np.dtype) -> bool:
    """`long double` is not the same everywhere, and texts of no length would make arrays out of nothing."""
    return dtype.kind in KINDS and dtype.itemsize > 0 and dtype.char != "g"


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"there is no extension {code}")
