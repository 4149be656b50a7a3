"""Several Redis servers as one replay. One server is the usual case.

A life of a stream lives on one shard, chosen for good when it begins: by rendezvous hash among the servers that answer.
So the list of servers may grow between one start and the next, and a server that is down takes no new life and
blocks only those that it holds. The number of a life is above all that any answering server knows, and is written to
all of them. While some server is silent it may know more: then the number lies at random far above, so that none is
given twice.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from replay.config import ReplayConfig
from replay.errors import BadInput, TryAgain
from replay.schema import EpisodeSpec
from replay.shards.address import addresses
from replay.shards.commit import Life
from replay.shards.shard import Shard

_T = TypeVar("_T")
_FAR = 2**31  # lives that a number given without all servers may skip
_COUNT_S = 1.0  # between looks at what other shards count


class Router:
    """The shards of a run, numbered as in `config.url`, and the rule that assigns lives to them."""

    def __init__(self, config: ReplayConfig, run: str, outage_s: float | None = None, notes: bool = False) -> None:
        """Does not connect yet. `outage_s` overrides that of the configuration. With `notes`, what each shard counts is
        noted on the others, for who starts while it is away."""
        urls = addresses(config.url)
        if not urls:
            raise BadInput("replay.url is empty here.", "Start an EmbeddedRedis and set replay.url to what it returns.")
        if len(set(urls)) < len(urls):
            raise BadInput("replay.url names a server twice.", "Name each server once.")
        outage = config.outage_s if outage_s is None else outage_s
        self.shards = tuple(Shard(u, run, min(config.connect_timeout_s, outage), outage) for u in urls)
        self.max_bytes = config.max_bytes // len(self.shards)  # of each shard
        self._inserted: dict[Shard, int] = {}  # steps, at the last look
        self._counted_s, self._notes = -_COUNT_S, notes
        self._durability = config.durability
        self.epochs: dict[Shard, str] = {}  # of the shards that answered `register`

    def register(self, spec: EpisodeSpec) -> None:
        """Raises BadInput if the run has another spec, TryAgain if no shard answers within its `connect_timeout_s`.

        All are asked at once; those that did not answer this process lately are asked only if no other one answers.
        """

        def ask(shard: Shard, patience_s: float | None) -> str:
            shard.connect(self._durability, patience_s)
            return shard.register(spec)

        lively = [shard for shard in self.shards if not shard.failed_lately]
        self.epochs = {}
        if len(self.shards) > 1:
            self.epochs, _ = _answers(lively, lambda shard: ask(shard, 0))
        if not self.epochs:
            self.epochs, failed = _answers(self.shards, lambda shard: ask(shard, None))
            if not self.epochs:
                raise failed[0]

    def begin_life(self, stream: str, above: int = 0) -> tuple[Shard, Life]:
        """Where the stream's next life is stored, among the shards that `register` found. Its number is 1 + the largest
        that any of them knows, and larger than `above`; far larger while a server is silent."""
        while True:
            skipped = secrets.randbelow(_FAR) if len(self.epochs) < len(self.shards) else 0
            incarnation = max(above, *(s.newest_life(stream) for s in self.epochs)) + 1 + skipped
            home = max(self.epochs, key=lambda s: hashlib.blake2b(f"{s.name} {stream}".encode()).digest())
            token = secrets.token_hex(8)
            begun = [s.begin_life(stream, incarnation, token if s is home else "") for s in self.epochs]
            if all(begun):  # else another writer took the number meanwhile
                life = Life(stream=stream, incarnation=incarnation, token=token, epoch=self.epochs[home])
                return home, life

    def inserted_elsewhere(self, shard: Shard) -> int:
        """Steps inserted on the other shards, as of the last second; a dead shard's as of when it last answered this
        process, or with `notes` anybody."""
        now = time.monotonic()
        if len(self.shards) > 1 and now - self._counted_s >= _COUNT_S:
            self._counted_s = now
            self._count()
        return sum(steps for other, steps in list(self._inserted.items()) if other is not shard)

    def _count(self) -> None:
        """Looks at all shards that answer, and notes on each what the others count."""
        seen: dict[Shard, int] = {}
        for shard in self.shards:
            if shard.away_since is None:
                with suppress(TryAgain):
                    seen[shard] = shard.counters(patience_s=0).get("inserted_steps", 0)
        self._inserted |= seen
        unknown = {shard.name: shard for shard in self.shards if shard not in self._inserted}
        for shard in seen if self._notes else ():
            with suppress(TryAgain, BadInput):  # a server may not let us
                told = shard.note_elsewhere({o.name: steps for o, steps in seen.items() if o is not shard})
                self._inserted |= {unknown[name]: steps for name, steps in told.items() if name in unknown}

    def close(self) -> None:
        for shard in self.shards:
            shard.close()


def _answers(shards: Sequence[Shard], ask: Callable[[Shard], _T]) -> tuple[dict[Shard, _T], list[TryAgain]]:
    """What each shard that answers says, and why the others do not. All are asked at once."""

    def attempt(shard: Shard) -> _T | TryAgain:
        try:
            return ask(shard)
        except TryAgain as error:
            return error

    if len(shards) == 1:
        replies = [attempt(shards[0])]
    else:
        with ThreadPoolExecutor(max(len(shards), 1)) as threads:
            replies = list(threads.map(attempt, shards))
    said = {s: r for s, r in zip(shards, replies, strict=True) if not isinstance(r, TryAgain)}
    return said, [r for r in replies if isinstance(r, TryAgain)]
