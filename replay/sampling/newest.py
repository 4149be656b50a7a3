"""Which chunks hold the newest steps, without a table of all."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from replay.sampling.rows import Rows, Stretch


def newest(rows: Rows, steps: int) -> np.ndarray:
    """The position (lives,) in each life from which on its chunks are among those that hold the newest `steps` steps.

    A shard counts its chunks but knows no time, so of several each gives as many steps as is its share of the chunks.
    """
    shards: dict[int, list[Stretch]] = {}
    for life in rows.lives:
        if life is not None:
            shards.setdefault(life.shard, []).append(life)
    chunks = {shard: sum(life.tail - life.head for life in lives) for shard, lives in shards.items()}
    floors = np.zeros(len(rows.lives), np.int64)
    for shard, lives in shards.items():
        share = steps * chunks[shard] / sum(chunks.values())
        cursor = _oldest_cursor(rows, lives, share)
        for life in lives:
            floors[life.number] = _position(rows, life, cursor)
    return floors


def _oldest_cursor(rows: Rows, lives: list[Stretch], steps: float) -> int:
    """From which on the chunks of these lives have that many steps, or the first of all. Looks at the newest chunks
    alone: at twice as many until there are enough."""
    cursors, end = rows.table["cursor"], max(int(rows.table["cursor"][x.tail - 1 + x.offset]) for x in lives)
    first, reach = min(int(cursors[x.head + x.offset]) for x in lives), 64
    while True:
        parts = [
            rows.table[_position(rows, life, end - reach) + life.offset : life.tail + life.offset] for life in lives
        ]
        chunks = np.concatenate(parts)
        chunks = chunks[np.argsort(-chunks["cursor"])]
        enough = np.flatnonzero(np.cumsum(chunks["steps"]) >= steps)
        if enough.size:
            return int(chunks["cursor"][enough[0]])
        if end - reach <= first:
            return first
        reach *= 2


def _position(rows: Rows, life: Stretch, cursor: int) -> int:
    return bisect_left(rows.table["cursor"], cursor, life.head + life.offset, life.tail + life.offset) - life.offset
