"""Draws windows from the rows of an index: uniform, prioritised, from the newest steps, each new step once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from replay.config import SamplingConfig
from replay.sampling.draws import Drawn, back, cut
from replay.sampling.feedback import Feedback
from replay.sampling.newest import newest
from replay.sampling.online import OnlineQueue
from replay.sampling.priorities import Priorities, PrioritisedStarts, check_priorities
from replay.sampling.rows import Rows
from replay.sampling.starts import Starts
from replay.schema import Entry, Window

_KINDS = 16  # of draws whose sums are kept: each costs eight bytes a chunk


class Kind(NamedTuple):
    """What a draw may touch."""

    length: int  # steps
    valid: bool  # the side of the split
    across: bool
    labels: frozenset[str] | None  # who acted when an episode began; None: anybody


class Sampler:
    """Draws of several kinds. Those for validation are uniform over all there is, whatever the configuration."""

    def __init__(self, rows: Rows, labels: Sequence[str], config: SamplingConfig) -> None:
        """`labels` grows as the index meets new ones."""
        self._queues: dict[Kind, OnlineQueue] = {}
        self._rows, self._labels, self._config = rows, labels, config
        self._priorities = Priorities(rows) if config.kind == "prioritised" else None
        self._feedback = Feedback(rows)
        self._starts: dict[Kind, Starts] = {}

    def note(self, changed: Iterable[int]) -> None:
        """These lives have other chunks than before."""
        for starts in self._starts.values():
            starts.changed.update(changed)

    @property
    def attentive(self) -> bool:
        """Whether it wants to know of each chunk that arrives."""
        return self._priorities is not None or bool(self._queues)

    def arrived(self, row: int, entry: Entry) -> None:
        """A new chunk is in this row."""
        if self._priorities is not None:
            self._priorities.arrived(row)
        life, group = self._rows.life_of(row), self._rows.table["group"][row]
        for kind, queue in self._queues.items():
            if self._groups(kind)[group]:
                queue.arrived(life.number, life.ref(row), entry)

    def forget(self, number: int) -> None:
        """A life has lost chunks that were not its oldest."""
        for starts in self._starts.values():
            starts.forget(number)

    def lose(self, begin: int, end: int) -> None:
        """The chunks of these rows are about to go."""
        for starts in self._starts.values():
            starts.lose(begin, end)

    def draw(self, key: tuple[int, ...], batch_size: int, kind: Kind, context: int, away: frozenset[int]) -> Drawn:
        """See `EpisodeIndex.draw`."""
        if kind.length < 1 or batch_size < 1 or context < 0:
            raise ValueError(f"a batch of {batch_size} windows of {context} + {kind.length} steps")
        starts = self._of_kind(kind)
        if starts.update(away) and self._config.latest_steps and not kind.valid:
            starts.begin_at(newest(self._rows, self._config.latest_steps))
        if starts.total == 0:
            raise LookupError(self._too_short(kind, away))
        rng = np.random.default_rng(np.random.SeedSequence(key))
        rows, begin = self._online(key, rng, batch_size, kind, starts)
        others, inside, weights = starts.draw(rng, batch_size - len(rows))
        if len(rows):
            weights = None if weights is None else np.concatenate([np.ones(len(rows), np.float32), weights])
            others, inside = np.concatenate([rows, others]), np.concatenate([begin, inside])
        self._feedback.drawn(context, kind.length)
        return self._drawn(others, inside, kind.length, context, weights)

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """See `EpisodeIndex.feedback`."""
        priorities = check_priorities(windows, priorities)
        if self._priorities is not None:
            rows = self._feedback.rows_of(windows)
            rows, priorities = rows[rows >= 0], priorities[rows >= 0]
            self._reprice(self._priorities, rows, priorities)
            self._feedback.send(rows, priorities)

    def take_hints(self) -> dict[int, bytes]:
        """See `EpisodeIndex.take_hints`."""
        return self._feedback.outgoing()

    def give_hints(self, payload: bytes) -> None:
        """See `EpisodeIndex.give_hints`."""
        if self._priorities is not None:
            self._reprice(self._priorities, *self._feedback.incoming(payload))

    @property
    def malformed_hints(self) -> int:
        return self._feedback.malformed

    def _reprice(self, priorities: Priorities, rows: np.ndarray, values: np.ndarray) -> None:
        priorities.set(rows, values)
        for starts in self._starts.values():
            starts.update(starts.away)
            starts.reprice(rows)

    def _of_kind(self, kind: Kind) -> Starts:
        starts = self._starts.pop(kind, None) or self._new(kind)
        self._starts[kind] = starts  # the last to go
        if len(self._starts) > _KINDS:
            oldest = next(iter(self._starts))
            self._starts.pop(oldest).close()
            self._queues.pop(oldest, None)
        return starts

    def _new(self, kind: Kind) -> Starts:
        def groups() -> np.ndarray:
            return self._groups(kind)

        if kind.valid:
            return Starts(self._rows, kind.length, kind.across, groups)
        if self._config.online_share:
            self._queues[kind] = OnlineQueue(kind.length, kind.across)
        if self._priorities is None:
            return Starts(self._rows, kind.length, kind.across, groups)
        return PrioritisedStarts(self._rows, kind.length, kind.across, groups, self._priorities, self._config)

    def _groups(self, kind: Kind) -> np.ndarray:
        wanted = np.zeros((len(self._labels), 2), bool)
        wanted[:, int(kind.valid)] = [kind.labels is None or label in kind.labels for label in self._labels]
        return wanted.reshape(-1)

    def _online(
        self, key: tuple[int, ...], rng: np.random.Generator, batch_size: int, kind: Kind, starts: Starts
    ) -> tuple[np.ndarray, np.ndarray]:
        """Windows that end in new chunks, as many as there are up to the share: rows, and steps within them."""
        found: list[tuple[int, int]] = []
        queue = self._queues.get(kind)
        if queue is not None:
            wanted = int(self._config.online_share * batch_size + rng.random())
            queue.take(key)
            while len(found) < wanted and (place := queue.pop()) is not None:
                found += self._ending(*place, starts)
        rows, begin = np.array(found, np.int64).reshape(-1, 2).T
        return rows, begin

    def _ending(self, ref: int, end: int, starts: Starts) -> list[tuple[int, int]]:
        """Where the window starts that ends with step `end` of a chunk; nothing if there is none."""
        row, begin, steps = self._rows.row(ref), end - starts.length, self._rows.table["steps"]
        if row < 0 or (life := self._rows.life_of(row)).shard in starts.away:
            return []
        while begin < 0 and row > life.head + life.offset:
            row -= 1
            begin += int(steps[row])
        return [(row, begin)] if 0 <= begin < starts.counts(np.array([row]))[0] else []

    def _drawn(
        self, rows: np.ndarray, begin: np.ndarray, length: int, context: int, weights: np.ndarray | None
    ) -> Drawn:
        table, total = self._rows.table, context + length
        steps, first = table["steps"], table["first_step"][rows] + begin
        prefix = np.minimum(first, context)
        chunks, inside = back(steps, rows, begin, prefix) if context else (rows, begin)
        pieces = cut(steps, chunks, inside, context - prefix, total)
        lives = map(self._rows.lives.__getitem__, table["life"][rows].tolist())
        keys = [life.key(e) for life, e in zip(lives, table["episode"][rows].tolist(), strict=True) if life]
        places = zip(keys, (first - context).tolist(), strict=True)
        return Drawn(
            windows=tuple(Window(key=key, start=start, length=total) for key, start in places),
            refs=self._rows.refs(pieces.chunks),
            rows=pieces.rows,
            at=pieces.at,
            begin=pieces.begin,
            count=pieces.count,
            weights=weights,
            mask=np.arange(total) >= (context - prefix)[:, None] if context else None,
        )

    def _too_short(self, kind: Kind, away: frozenset[int]) -> str:
        chunks = self._rows.table[self._rows.table["steps"] > 0]
        here = [life is not None and life.shard not in away for life in self._rows.lives]
        chunks = chunks[self._groups(kind)[chunks["group"]] & np.array(here, bool)[chunks["life"]]]
        count = np.count_nonzero(chunks["first_step"] == 0)
        longest = (chunks["first_step"] + chunks["steps"]).max(initial=0)
        return f"no episode has {kind.length} steps: there are {count}, the longest with {longest}"
