"""Draws windows from the rows of an index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from replay.config import SamplingConfig
from replay.draws import Drawn, back, cut
from replay.rows import Rows
from replay.schema import Window
from replay.starts import Starts

_KINDS = 16  # of draws (lengths, sides, labels, ...) whose sums are kept: each costs eight bytes a chunk


class Sampler:
    """Keeps the running sums of the kinds of draws that are asked for."""

    def __init__(self, rows: Rows, labels: Sequence[str], config: SamplingConfig) -> None:
        """`labels` grows as the index meets new ones."""
        self._rows, self._labels, self._config = rows, labels, config
        self._starts: dict[tuple[int, bool, bool, frozenset[str] | None], Starts] = {}

    def note(self, changed: Iterable[int]) -> None:
        """These lives have other chunks than before."""
        for starts in self._starts.values():
            starts.changed.update(changed)

    def forget(self, number: int) -> None:
        """A life has lost chunks that were not its oldest."""
        for starts in self._starts.values():
            starts.forget(number)

    def draw(
        self,
        key: tuple[int, ...],
        batch_size: int,
        length: int,
        context: int,
        valid: bool,
        across: bool,
        labels: frozenset[str] | None,
        away: frozenset[int],
    ) -> Drawn:
        """See `EpisodeIndex.draw`."""
        if length < 1 or batch_size < 1 or context < 0:
            raise ValueError(f"a batch of {batch_size} windows of {context} + {length} steps")
        starts = self._of_kind(length, valid, across, labels)
        starts.update(away)
        if starts.total == 0:
            raise LookupError(self._too_short(length, valid, across, labels, away))
        rng = np.random.default_rng(np.random.SeedSequence(key))
        rows, begin = starts.find(rng.integers(starts.total, size=batch_size))
        return self._windows(rows, begin, length, context)

    def _of_kind(self, length: int, valid: bool, across: bool, labels: frozenset[str] | None) -> Starts:
        kind = (length, valid, across, labels)
        starts = self._starts.pop(kind, None)
        if starts is None:
            starts = Starts(self._rows, length, across, lambda: self._groups(valid, labels))
        self._starts[kind] = starts
        while len(self._starts) > _KINDS:
            self._starts.pop(next(iter(self._starts))).close()
        return starts

    def _groups(self, valid: bool, labels: frozenset[str] | None) -> np.ndarray:
        wanted = np.zeros((len(self._labels), 2), bool)
        wanted[:, int(valid)] = [labels is None or label in labels for label in self._labels]
        return wanted.reshape(-1)

    def _windows(self, rows: np.ndarray, begin: np.ndarray, length: int, context: int) -> Drawn:
        table, total = self._rows.table, context + length
        steps, first = table["steps"], table["first_step"][rows] + begin
        prefix = np.minimum(first, context)
        chunks, inside = back(steps, rows, begin, prefix) if context else (rows, begin)
        pieces = cut(steps, chunks, inside, context - prefix, total)
        lives = [self._rows.lives[number] for number in table["life"][rows].tolist()]
        keys = [life.key(e) for life, e in zip(lives, table["episode"][rows].tolist(), strict=True) if life]
        places = zip(keys, (first - context).tolist(), strict=True)
        return Drawn(
            windows=tuple(Window(key=key, start=start, length=total) for key, start in places),
            refs=self._rows.refs(pieces.chunks),
            rows=pieces.rows,
            at=pieces.at,
            begin=pieces.begin,
            count=pieces.count,
            mask=np.arange(total) >= (context - prefix)[:, None] if context else None,
        )

    def _too_short(
        self, length: int, valid: bool, across: bool, labels: frozenset[str] | None, away: frozenset[int]
    ) -> str:
        chunks = self._rows.table[self._rows.table["steps"] > 0]
        here = [life is not None and life.shard not in away for life in self._rows.lives]
        chunks = chunks[self._groups(valid, labels)[chunks["group"]] & np.array(here, bool)[chunks["life"]]]
        count = np.count_nonzero(chunks["first_step"] == 0)
        longest = (chunks["first_step"] + chunks["steps"]).max(initial=0)
        return f"no episode has {length} steps: there are {count}, the longest with {longest}"
