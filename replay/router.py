"""Several Redis servers as one replay. One server is the usual case.

A life of a stream lives on one shard, chosen for good when it begins: by rendezvous hash among the servers that answer.
So the list of servers may grow between one start and the next, and a server that is down takes no new life and
blocks only those that it holds. The number of a life is above all that any answering server knows, and is written to
all of them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from replay.address import addresses
from replay.commit import Life
from replay.config import ReplayConfig
from replay.errors import BadInput, TryAgain
from replay.schema import EpisodeSpec
from replay.shard import Shard

_T = TypeVar("_T")


class Router:
    """The shards of a run, numbered as in `config.url`, and the rule that assigns lives to them."""

    def __init__(self, config: ReplayConfig, run: str, outage_s: float | None = None) -> None:
        """Does not connect yet. `outage_s` overrides that of the configuration."""
        urls = addresses(config.url)
        if not urls:
            raise BadInput("replay.url is empty here.", "Start an EmbeddedRedis and set replay.url to what it returns.")
        if len(set(urls)) < len(urls):
            raise BadInput("replay.url names a server twice.", "Name each server once.")
        outage = config.outage_s if outage_s is None else outage_s
        self.shards = tuple(Shard(u, run, min(config.connect_timeout_s, outage), outage) for u in urls)
        self.max_bytes = config.max_bytes // len(self.shards)  # of each shard
        self._durability = config.durability
        self.epochs: dict[Shard, str] = {}  # of the shards that answered `register`

    def register(self, spec: EpisodeSpec) -> None:
        """Raises BadInput if the run has another spec, TryAgain if no shard answers within its `connect_timeout_s`."""

        def ask(shard: Shard) -> str:
            shard.connect(self._durability)
            return shard.register(spec)

        self.epochs = self._answers(ask)

    def begin_life(self, stream: str, above: int = 0) -> tuple[Shard, Life]:
        """Where the stream's next life is stored, among the shards that `register` found. Its number is 1 + the largest
        that any of them knows, and larger than `above`."""
        while True:
            incarnation = max(above, *(s.newest_life(stream) for s in self.epochs)) + 1
            home = max(self.epochs, key=lambda s: hashlib.blake2b(f"{s.name} {stream}".encode()).digest())
            token = secrets.token_hex(8)
            begun = [s.begin_life(stream, incarnation, token if s is home else "") for s in self.epochs]
            if all(begun):  # else another writer took the number meanwhile
                life = Life(stream=stream, incarnation=incarnation, token=token, epoch=self.epochs[home])
                return home, life

    def close(self) -> None:
        for shard in self.shards:
            shard.close()

    def _answers(self, ask: Callable[[Shard], _T]) -> dict[Shard, _T]:
        """What each shard that answers says; all are asked at once. Raises TryAgain if none does."""

        def attempt(shard: Shard) -> _T | TryAgain:
            try:
                return ask(shard)
            except TryAgain as error:
                return error

        if len(self.shards) == 1:
            replies = [attempt(self.shards[0])]
        else:
            with ThreadPoolExecutor(len(self.shards)) as threads:
                replies = list(threads.map(attempt, self.shards))
        failed = [r for r in replies if isinstance(r, TryAgain)]
        if len(failed) == len(replies):
            raise failed[0]
        return {s: r for s, r in zip(self.shards, replies, strict=True) if not isinstance(r, TryAgain)}
