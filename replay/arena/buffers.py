"""Batch arrays that are used again once nobody holds them: fresh memory costs a page fault for every 4 KB."""

from __future__ import annotations

import math
import threading
import weakref
from dataclasses import dataclass

import numpy as np

_SMALL = 2**16  # bytes: below, the allocator keeps its memory at hand anyway
_IDLE = 64  # takes after which memory that nobody asked for goes back


@dataclass(slots=True)
class _Block:
    memory: np.ndarray
    lent: weakref.ref[np.ndarray]  # the array from which every view of the memory descends
    taken: int  # when it was last lent, counted in takes


class BufferPool:
    """Lends arrays. One comes back by being forgotten: by its last view, tensor or memoryview, wherever that is."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._takes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Of all blocks, lent or not."""
        return sum(b.memory.nbytes for b in self._blocks)

    def take(self, shape: tuple[int, ...], dtype: np.dtype | str) -> np.ndarray:
        """A C-contiguous, writable array of any content."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if size < _SMALL:
            return np.empty(shape, dtype)
        with self._lock:
            self._takes += 1
            block = self._free(size) or self._new(size)
            # numpy does not look behind a memoryview: all views hold on to `lent`, none to `memory`.
            lent = np.frombuffer(block.memory.data, np.uint8, size)
            block.lent, block.taken = weakref.ref(lent), self._takes
            return lent.view(dtype).reshape(shape)

    def _free(self, size: int) -> _Block | None:
        return next((b for b in self._blocks if b.memory.nbytes == size and b.lent() is None), None)

    def _new(self, size: int) -> _Block:
        recent = self._takes - _IDLE
        self._blocks = [b for b in self._blocks if b.lent() is not None or b.taken > recent]
        memory = np.empty(size, np.uint8)
        self._blocks.append(_Block(memory, weakref.ref(memory), self._takes))
        return self._blocks[-1]
