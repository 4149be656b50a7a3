"""Decoded chunks, least recently used first out, bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from replay.schema import ChunkId

Arrays = Mapping[str, np.ndarray]


class ChunkCache:
    """Not for several threads at once."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._chunks: OrderedDict[ChunkId, Arrays] = OrderedDict()

    def get(self, chunk: ChunkId) -> Arrays | None:
        if chunk in self._chunks:
            self._chunks.move_to_end(chunk)
        return self._chunks.get(chunk)

    def put(self, chunk: ChunkId, arrays: Arrays) -> None:
        """Replaces nothing: a chunk never changes."""
        if chunk not in self._chunks:
            self._chunks[chunk] = arrays
            self.bytes += _bytes(arrays)
        while self.bytes > self.max_bytes:
            self.bytes -= _bytes(self._chunks.popitem(last=False)[1])


def _bytes(arrays: Arrays) -> int:
    return sum(a.nbytes for a in arrays.values())
