"""What a draw is: windows, and the stretches of chunks that fill them. Plain arrays, no Python for each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.schema import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """B windows of T steps, cut into P pieces that each lie within one chunk.

    Piece i is steps begin[i], ..., begin[i] + count[i] - 1 of chunk refs[i], and belongs at batch[rows[i], at[i] :].
    """

    windows: tuple[Window, ...]
    refs: np.ndarray  # (P,) int64: handles of the index
    rows: np.ndarray  # (P,) int64
    at: np.ndarray  # (P,) int64
    begin: np.ndarray  # (P,) int64
    count: np.ndarray  # (P,) int64
    weights: np.ndarray | None = None  # (B,) float32, see Batch
    mask: np.ndarray | None = None  # (B, T) bool, see Batch; nothing is written where it is False


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of windows as rows of the index's table."""

    chunks: np.ndarray  # (P,) rows of the table
    rows: np.ndarray
    at: np.ndarray
    begin: np.ndarray
    count: np.ndarray


def cut(steps: np.ndarray, chunks: np.ndarray, begin: np.ndarray, at: np.ndarray, length: int) -> Pieces:
    """Cuts B windows at the ends of their chunks. `steps` (rows,) is the length of every chunk; window b begins at step
    begin[b] of chunk chunks[b], fills places at[b], ..., length - 1 of its row, and goes on in the next rows."""
    rows, parts = np.arange(len(chunks)), []
    while len(rows):
        count = np.minimum(steps[chunks] - begin, length - at)
        parts.append((chunks, rows, at, begin, count))
        at = at + count
        more = at < length
        rows, chunks, at = rows[more], chunks[more] + 1, at[more]
        begin = np.zeros(len(rows), np.int64)
    return Pieces(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def back(steps: np.ndarray, chunks: np.ndarray, begin: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chunks, and the steps within them, that lie `count` steps before the given ones."""
    chunks, begin = chunks.copy(), begin - count
    while (early := np.flatnonzero(begin < 0)).size:
        chunks[early] -= 1
        begin[early] += steps[chunks[early]]
    return chunks, begin
