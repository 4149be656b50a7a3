"""What a reader knows of one shard: whether it answers, and whether it still holds what it held."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from replay.errors import ExperienceLost, TryAgain
from replay.schema import Entry, EpisodeSpec
from replay.shards.commit import LOSS_MEND
from replay.shards.shard import Shard, ShardState
from replay.sources.chunk_source import Away

_T = TypeVar("_T")

_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_SHARE = 5  # a server that is away costs its reader this part of the time, at most


@dataclass(frozen=True, slots=True)
class News:
    """What a reader of a shard has not seen yet."""

    oldest: int  # number of the oldest chunk still stored
    entries: list[tuple[int, Entry]]  # with their numbers
    hints: list[tuple[str, bytes]]  # with their ids


class Reach:
    """While the shard is away, most calls raise Away at once: only now and then one tries to reach it."""

    def __init__(self, number: int, shard: Shard, patience_s: float, outage_s: float) -> None:
        """A shard counts as away after `patience_s`, and as gone after `outage_s`."""
        self.number, self.shard, self.epoch = number, shard, ""
        self.hinted: str | None = None  # the last hint that was read; None: they are not for us
        self._patience_s, self._outage_s = min(patience_s, outage_s), outage_s
        self._away_since_s: float | None = None
        self._next_s, self._pause_s = 0.0, _PAUSE_S

    def begin(self, spec: EpisodeSpec) -> None:
        """Raises TryAgain if the shard does not answer within `outage_s`, BadInput if the run has another spec."""
        self.shard.outage_s, deadline = self._outage_s, time.monotonic() + self._outage_s
        while True:
            try:
                self.shard.connect()
                self.epoch = self.shard.register(spec)
                return
            except TryAgain:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)

    def ask(self, command: Callable[[Shard], _T]) -> _T:
        """What the shard replies. Raises Away if it does not, TryAgain if it has been away for `outage_s`."""
        now = time.monotonic()
        if now < self._next_s:
            raise Away({self.number}, self._reason())
        self.shard.outage_s = 0.0 if self._away_since_s else self._patience_s
        try:
            reply = command(self.shard)
        except ExperienceLost:
            raise
        except TryAgain as error:
            self._away_since_s = self._away_since_s or now
            if (over := time.monotonic()) - self._away_since_s >= self._outage_s:
                raise
            self._next_s = over + max(self._pause_s, (_SHARE - 1) * (over - now))
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            raise Away({self.number}, error) from error
        self._away_since_s, self._next_s, self._pause_s = None, 0.0, _PAUSE_S
        return reply

    def hurry(self) -> None:
        """Lets the next call try: there is nothing else to do."""
        self._next_s = 0.0

    def news(self, after: int) -> News:
        """What came later than number `after`. One round trip if there is nothing.

        Raises ExperienceLost if it is not the shard that it was, else as `ask`.
        """

        def look(shard: Shard) -> News:
            state = shard.state()
            if state.epoch != self.epoch or state.inserted_chunks < after:
                raise self._lost(state, after)
            entries = list(shard.tail(after)) if state.inserted_chunks > after else []
            return News(state.oldest, entries, [] if self.hinted is None else shard.hints(self.hinted))

        return self.ask(look)

    def _lost(self, state: ShardState, after: int) -> ExperienceLost:
        if not state.inserted_chunks:
            said = "came back empty"
        elif state.epoch != self.epoch:
            said = "came back with another data set"
        else:
            said = f"came back with older data: {state.inserted_chunks} chunks"
        return ExperienceLost(f"Redis at {self.shard.name} {said}, after {after} that it had acknowledged.", LOSS_MEND)

    def _reason(self) -> TryAgain:
        return TryAgain(
            f"Redis at {self.shard.name} is away.",
            "See that it runs and that this machine reaches it, then run the same command again.",
        )
