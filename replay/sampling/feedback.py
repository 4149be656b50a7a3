"""What learners say of windows they have seen: it sets priorities here, and travels to the others as hints."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np

from replay.sampling.hints import MAX_HINTS, BadHints, decode_hints, encode_hints
from replay.sampling.rows import Rows
from replay.schema import ChunkId, Window


class Feedback:
    """Finds the chunks that feedback is about, and keeps what has yet to be sent."""

    def __init__(self, rows: Rows) -> None:
        self.sender = secrets.token_hex(4)
        self.malformed = 0  # hints that could not be read
        self._rows = rows
        self._contexts: dict[int, int] = {}  # length of a window -> its context
        self._unsent: dict[int, dict[ChunkId, float]] = {}  # by shard

    def drawn(self, context: int, length: int) -> None:
        """Windows of these steps are in use: their priority is that of the chunk where the `length` steps start."""
        self._contexts[context + length] = context

    def rows_of(self, windows: Sequence[Window]) -> np.ndarray:
        """(len(windows),) rows of the chunks in which windows start; -1 for those that are gone."""
        return np.array(
            [self._rows.row_at(w.key, w.start + self._contexts.get(w.length, 0)) for w in windows], np.int64
        )

    def send(self, rows: np.ndarray, priorities: np.ndarray) -> None:
        """Keeps the priorities of these chunks until the next `outgoing`."""
        for row, priority in zip(rows.tolist(), priorities.tolist(), strict=True):
            life = self._rows.life_of(row)
            unsent = self._unsent.setdefault(life.shard, {})
            unsent[ChunkId(*life.name, int(self._rows.table["seq"][row]))] = priority
            if len(unsent) > MAX_HINTS:
                del unsent[next(iter(unsent))]

    def outgoing(self) -> dict[int, bytes]:
        """What has come together since the last time, by shard."""
        payloads = {shard: encode_hints(self.sender, priorities) for shard, priorities in self._unsent.items()}
        self._unsent.clear()
        return payloads

    def incoming(self, payload: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Rows and priorities from the hints of others; none from one's own, and from what cannot be read."""
        try:
            sender, hints = decode_hints(payload)
        except BadHints:
            self.malformed, sender, hints = self.malformed + 1, "", {}
        found = {} if sender == self.sender else {self._rows.row_of(chunk): p for chunk, p in hints.items()}
        found.pop(-1, None)
        return np.array(list(found), np.int64), np.array(list(found.values()), np.float64)
