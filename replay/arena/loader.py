"""Chunks that are not at hand: fetched some at a time, one lot ahead, and decoded by several threads.

lz4, zstd and the checksum leave other threads running, so decoding keeps up with what a socket brings.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from replay.codec import MAX_RAW_BYTES, CorruptChunk, checksum_of, decode
from replay.schema import Entry, EpisodeSpec

Arrays = Mapping[str, np.ndarray]
Bodies = Callable[[Sequence[int]], list[bytes | None]]  # None: evicted
Use = Callable[[int, Arrays], None]
_Fetched = tuple[int, Entry, bytes | None]

_LOT = 16  # chunks: bounds what is in memory besides the batch to some tens of megabytes


class Loader:
    """For one thread at a time, which decodes as well."""

    def __init__(self, spec: EpisodeSpec, run: str | None, bodies: Bodies) -> None:
        """Chunks of another run are refused, unless `run` is None. `bodies` is called from another thread."""
        self._spec, self._run, self._bodies = spec, run, bodies
        self._share = min(4, os.cpu_count() or 1)
        self._fetcher = ThreadPoolExecutor(1, "fetch")
        self._helpers = ThreadPoolExecutor(max(1, self._share - 1), "decode")

    def load(self, wanted: Mapping[int, Entry], use: Use) -> dict[int, CorruptChunk | None]:
        """Calls `use` with each ref and its arrays (read-only), from several threads.

        Returns those that cannot be had: what is wrong with the body, or None if there is none any more. Raises what
        `bodies` raises; some are used by then.
        """
        refs, failed = list(wanted), dict[int, CorruptChunk | None]()
        lots = [refs[i : i + _LOT] for i in range(0, len(refs), _LOT)]
        ahead = self._fetcher.submit(self._bodies, lots[0])
        try:
            for number, lot in enumerate(lots, start=1):
                bodies = ahead.result()
                if number < len(lots):
                    ahead = self._fetcher.submit(self._bodies, lots[number])
                failed |= self._decode([(ref, wanted[ref], body) for ref, body in zip(lot, bodies, strict=True)], use)
        finally:
            ahead.cancel()
        return failed

    def close(self) -> None:
        """Does not wait for what still runs."""
        for threads in (self._fetcher, self._helpers):
            threads.shutdown(wait=False, cancel_futures=True)

    def _decode(self, lot: Sequence[_Fetched], use: Use) -> dict[int, CorruptChunk | None]:
        """In as many threads as there are cores, each with one part: handing over chunk by chunk costs more."""
        size = -(-len(lot) // self._share)
        parts = [lot[i : i + size] for i in range(0, len(lot), size)]
        others = [self._helpers.submit(self._decode_part, part, use) for part in parts[1:]]
        failed = self._decode_part(parts[0], use)
        for other in others:
            failed |= other.result()
        return failed

    def _decode_part(self, part: Sequence[_Fetched], use: Use) -> dict[int, CorruptChunk | None]:
        failed: dict[int, CorruptChunk | None] = {}
        for ref, entry, body in part:
            if body is None:
                failed[ref] = None
                continue
            try:
                arrays = checked(entry, body, self._spec, self._run)
            except CorruptChunk as error:
                failed[ref] = error
                continue
            use(ref, arrays)
            del arrays  # the next chunk takes its memory: fresh memory costs more than decoding
        return failed


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
