"""Messages between an environment's process and its host: msgpack with a length before it, over a socket.

Runs on both sides, so on Python 3.8 and numpy + msgpack alone.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

LENGTH = struct.Struct("<I")
MAX_BYTES = 2**28  # of one message
ARRAY = 1  # msgpack's extension type of arrays
KINDS = "biuf"  # of the dtypes that may travel: bool, int, unsigned, float


def array_out(value: Any) -> Any:
    """What msgpack cannot pack by itself: arrays and numpy's numbers."""
    if isinstance(value, np.ndarray) and value.dtype.kind in KINDS:
        parts = (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
        return msgpack.ExtType(ARRAY, msgpack.packb(parts))
    if isinstance(value, np.generic) and value.dtype.kind in KINDS:
        return value.item()
    raise TypeError(f"{type(value).__name__} does not travel between processes")


def array_in(code: int, data: bytes) -> np.ndarray:
    """Raises ValueError for anything but an array of numbers."""
    if code != ARRAY:
        raise ValueError(f"unknown extension type {code}")
    try:
        dtype, shape, body = msgpack.unpackb(data)
        kind = np.dtype(dtype).kind
        found = np.frombuffer(body, dtype).reshape(shape) if kind in KINDS else None
    except (TypeError, SyntaxError, AttributeError) as error:  # numpy's words for what is no dtype, or no shape
        raise ValueError(f"no array: {error}") from error
    if found is None:
        raise ValueError(f"arrays of {dtype} do not travel")
    return found.copy()


class Channel:
    """One question or answer at a time, each usually one system call."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._packer = msgpack.Packer(default=array_out)
        self._buffer = memoryview(bytearray(2**16))

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Any) -> None:
        """Raises TypeError for what is no plain data, OSError when the other side is gone."""
        body = self._packer.pack(message)
        self._socket.sendall(LENGTH.pack(len(body)) + body)

    def receive(self, waiting: Callable[[], None] | None = None) -> Any:
        """The next message. `waiting` is called at each timeout of the socket, and may raise. Raises EOFError when the
        other side is gone, ValueError for what is no message."""
        got = self._fill(0, LENGTH.size, waiting)
        size = LENGTH.size + LENGTH.unpack_from(self._buffer)[0]
        if size > MAX_BYTES:
            raise ValueError(f"a message of {size} bytes")
        if size > len(self._buffer):
            self._buffer = memoryview(bytearray(self._buffer[:got]).ljust(size))
        if self._fill(got, size, waiting) != size:
            raise ValueError("more than one message")
        return msgpack.unpackb(self._buffer[LENGTH.size : size], ext_hook=array_in, strict_map_key=False)

    def close(self) -> None:
        self._socket.close()

    def _fill(self, have: int, want: int, waiting: Callable[[], None] | None) -> int:
        """Receives until at least `want` bytes are there; how many are."""
        while have < want:
            try:
                got = self._socket.recv_into(self._buffer[have:])
            except BlockingIOError:  # the socket's own timeout
                if waiting is not None:
                    waiting()
                continue
            if not got:
                raise EOFError("the other side is gone")
            have += got
        return have
