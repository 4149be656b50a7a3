"""Messages between an environment's process and its host: msgpack with a length before it, over a pipe each way.

Runs on both sides, so on Python 3.8 and numpy + msgpack alone.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

LENGTH = struct.Struct("<I")
NOTHING = LENGTH.pack(0)
FIRST_BYTES = 2**12  # read at once; most messages are no longer
SEND_S = 10.0  # to take what was sent; most fits into the pipe at once
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
    """One question or answer at a time, each usually one write and one read. Pipes take half as long as sockets do.

    None travels as an empty message, which is how one side tells the other to look into the memory that they share.
    """

    def __init__(self, read: int, write: int, look_s: float | None = None) -> None:
        """Owns both descriptors. `look_s`: how long it waits for the other side before it looks at the clock; None
        waits for ever."""
        self._in, self._out, self._look_s = read, write, look_s
        self._packer = msgpack.Packer(default=array_out)
        if look_s is not None:
            os.set_blocking(write, False)
        self._arrival = select.poll()
        self._arrival.register(read, select.POLLIN)

    def fileno(self) -> int:
        """Readable when a message is there."""
        return self._in

    def send(self, message: Any) -> None:
        """Raises TypeError for what is no plain data, OSError when the other side is gone or takes nothing."""
        body = NOTHING if message is None else self._packed(message)
        sent = 0
        while sent < len(body):
            try:
                sent += os.write(self._out, body[sent:] if sent else body)
            except BlockingIOError:
                self._await_room()

    def receive(self, waiting: Callable[[], None] | None = None) -> Any:
        """The next message. `waiting` is called every `look_s` seconds without one, and may raise. Raises EOFError when
        the other side is gone, ValueError for what is no message."""
        data = self._read(FIRST_BYTES, waiting)
        if data == NOTHING:
            return None
        while len(data) < LENGTH.size:
            data += self._read(FIRST_BYTES, waiting)
        size = LENGTH.size + LENGTH.unpack_from(data)[0]
        if size > MAX_BYTES:
            raise ValueError(f"a message of {size} bytes")
        if len(data) < size:
            data = self._whole(data, size, waiting)
        if len(data) != size:
            raise ValueError("more than one message")
        return msgpack.unpackb(memoryview(data)[LENGTH.size :], ext_hook=array_in, strict_map_key=False)

    def close(self) -> None:
        """Harmless when repeated."""
        if self._in >= 0:
            os.close(self._in)
            os.close(self._out)
            self._in = self._out = -1

    def _packed(self, message: Any) -> bytes:
        body = self._packer.pack(message)
        return LENGTH.pack(len(body)) + body

    def _read(self, limit: int, waiting: Callable[[], None] | None) -> bytes:
        while self._look_s is not None and not self._arrival.poll(1e3 * self._look_s):
            if waiting is not None:
                waiting()
        data = os.read(self._in, limit)
        if not data:
            raise EOFError("the other side is gone")
        return data

    def _whole(self, data: bytes, size: int, waiting: Callable[[], None] | None) -> bytes:
        parts, have = [data], len(data)
        while have < size:
            parts.append(self._read(size - have, waiting))
            have += len(parts[-1])
        return b"".join(parts)

    def _await_room(self) -> None:
        room = select.poll()
        room.register(self._out, select.POLLOUT)
        if not room.poll(1e3 * SEND_S):
            raise TimeoutError(f"nothing was taken for {SEND_S:g} s")
