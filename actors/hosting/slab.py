"""Memory that an environment's process shares with its host: a heartbeat, the outcome of a step, its arrays.

Runs on both sides, so on Python 3.8 and numpy alone. The memory has a descriptor and no name: nothing can be left.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Field = tuple[str, Sequence[int], str]  # name, shape, dtype

HEADER = mmap.PAGESIZE  # heartbeat and outcome lie in a page of their own
ALIGN = 64
BEAT = struct.Struct("<d")
OUTCOME = struct.Struct("<d??")


def offsets(fields: Sequence[Field], start: int = HEADER) -> tuple[list[int], int]:
    """Where each field begins, and where the last one ends."""
    found, end = [], start
    for _, shape, dtype in fields:
        found.append(end)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        end += -(-size // ALIGN) * ALIGN
    return found, end


class Pulse:
    """When the environment's process last ran a thread, on the clock that all processes share."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, HEADER)

    def beat(self) -> None:
        BEAT.pack_into(self._memory, 0, time.monotonic())

    def age(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - float(BEAT.unpack_from(self._memory, 0)[0])

    def close(self) -> None:
        self._memory.close()


class Outcome:
    """What a step gave besides its observation: reward, terminated, truncated."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, HEADER)

    def write(self, reward: float, terminated: bool, truncated: bool) -> None:
        OUTCOME.pack_into(self._memory, ALIGN, reward, terminated, truncated)

    def read(self) -> tuple[float, bool, bool]:
        reward, terminated, truncated = OUTCOME.unpack_from(self._memory, ALIGN)
        return reward, terminated, truncated

    def close(self) -> None:
        self._memory.close()


class Slab:
    """Named arrays, written by one process and copied out by the other after it was told so."""

    def __init__(self, descriptor: int, fields: Sequence[Field], start: int = HEADER) -> None:
        """Makes the memory as large as the fields need, which lie there from `start` to `end`."""
        places, size = offsets(fields, start)
        self.end = size
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)
        self._views: dict[str, np.ndarray] = {}
        for (name, shape, dtype), place in zip(fields, places):  # noqa: B905 (Python 3.8)
            count = int(np.prod(shape, dtype=np.int64))
            self._views[name] = np.frombuffer(self._memory, dtype, count, place).reshape(shape)

    def write(self, observation: Mapping[str, Any]) -> None:
        """Raises KeyError for a field that is not there, ValueError for one of another shape."""
        for name, view in self._views.items():
            value = np.asarray(observation[name])
            if value.shape != view.shape:  # numpy would repeat it
                raise ValueError(f"{name} has the shape {value.shape} and not {view.shape}")
            view[...] = value

    def read(self) -> dict[str, np.ndarray]:
        """A copy, which the next observation does not touch."""
        return {name: view.copy() for name, view in self._views.items()}

    def close(self) -> None:
        self._views.clear()
        self._memory.close()
