"""Chunks that are not at hand: fetched some at a time, one lot ahead, and decoded by several threads.

lz4, zstd and the checksum leave other threads running, so decoding keeps up with what a socket brings.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from replay.codec import MAX_RAW_BYTES, CorruptChunk, checksum_of, decode
from replay.schema import Entry, EpisodeSpec

Arrays = Mapping[str, np.ndarray]
Bodies = Callable[[Sequence[int]], list[bytes | None]]  # None: evicted

_LOT = 16  # chunks: bounds what is in memory besides the batch to some tens of megabytes


class Loader:
    """For one thread at a time."""

    def __init__(self, spec: EpisodeSpec, run: str | None, bodies: Bodies) -> None:
        """Chunks of another run are refused, unless `run` is None. `bodies` is called from another thread."""
        self._spec, self._run, self._bodies = spec, run, bodies
        self._fetcher = ThreadPoolExecutor(1, "fetch")
        self._decoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "decode")

    def load(self, wanted: Mapping[int, Entry]) -> Iterator[tuple[int, Arrays | CorruptChunk | None]]:
        """For every ref its arrays (read-only), or what is wrong with its body, or None if there is none any more.

        Raises what `bodies` raises.
        """
        refs = list(wanted)
        lots = [refs[i : i + _LOT] for i in range(0, len(refs), _LOT)]
        ahead: Future[list[bytes | None]] | None = None
        try:
            for number, lot in enumerate(lots):
                bodies = (ahead or self._fetcher.submit(self._bodies, lot)).result()
                ahead = self._fetcher.submit(self._bodies, lots[number + 1]) if number + 1 < len(lots) else None
                entries = [wanted[ref] for ref in lot]
                yield from zip(lot, self._decoders.map(self._decoded, entries, bodies), strict=True)
        finally:
            if ahead is not None:
                ahead.cancel()

    def close(self) -> None:
        """Does not wait for what still runs."""
        for threads in (self._fetcher, self._decoders):
            threads.shutdown(wait=False, cancel_futures=True)

    def _decoded(self, entry: Entry, body: bytes | None) -> Arrays | CorruptChunk | None:
        if body is None:
            return None
        try:
            return checked(entry, body, self._spec, self._run)
        except CorruptChunk as error:
            return error


def checked(entry: Entry, body: bytes, spec: EpisodeSpec, run: str | None) -> Arrays:
    """The arrays of the chunk that an index calls `entry`. Raises CorruptChunk if the body is not that chunk's."""
    step_bytes = sum(np.dtype(f.dtype).itemsize * math.prod(f.shape) for f in spec.fields)
    chunk = decode(body, spec, max_bytes=min(entry.steps * step_bytes, MAX_RAW_BYTES))
    if checksum_of(body) != entry.checksum:
        raise CorruptChunk(f"The body of chunk {entry.id} is another one than the index names.")
    said = (entry.id, entry.episode, entry.first_step, entry.steps, entry.source, entry.policy_version)
    if (chunk.id, chunk.episode, chunk.first_step, chunk.steps, chunk.source, chunk.policy_version) != said:
        raise CorruptChunk(
            f"The body of chunk {entry.id} is that of {chunk.id}, or of other steps than the index says."
        )
    if run is not None and chunk.run != run:
        raise CorruptChunk(f"The body of chunk {entry.id} belongs to run {chunk.run!r}.")
    return chunk.arrays
