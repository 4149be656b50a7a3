"""The learner's side of the live replay: a run's shards as one source."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from replay.arena.arena import Arena
from replay.arena.shared_file import private_directory
from replay.config import ReplayConfig
from replay.errors import ExperienceLost
from replay.sampling.index import EpisodeIndex
from replay.schema import EpisodeSpec, Window
from replay.shards.router import Router
from replay.shards.shard import Shard
from replay.sources.chunk_source import Away, ChunkSource
from replay.sources.reach import News, Reach

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_WAIT_S = 0.1
_SEND_S = 1.0


class RedisSource(ChunkSource):
    """Goes on while shards are away, with what it knows: draws whose chunks are in the arena, else draws from the other
    shards alone. A shard that is away for `outage_s` ends this with TryAgain.
    """

    def __init__(self, config: ReplayConfig, run: str, spec: EpisodeSpec, timeout_s: float = 60) -> None:
        """Connects and reads the index. `outage_s` of the configuration is at most `timeout_s` here.

        Raises TryAgain if a shard does not answer, BadInput if the run has another spec.
        """
        outage_s = min(timeout_s, config.outage_s)
        self._router = Router(config, run, outage_s)
        self._on_loss = config.on_loss
        self._reaches = [Reach(n, s, config.connect_timeout_s, outage_s) for n, s in enumerate(self._router.shards)]
        self._threads = ThreadPoolExecutor(len(self._reaches), "shard")
        self._at_all(lambda reach: reach.begin(spec))
        self._sent_s = time.monotonic()
        if config.sampling.kind == "prioritised":
            for reach in self._reaches:
                reach.hinted = "0"
        directory = private_directory(config.arena_dir) if config.arena_bytes else None
        super().__init__(
            spec,
            EpisodeIndex(config.valid_share, config.sampling),
            Arena(directory, run, spec, config.arena_bytes),
            run,
            config.refresh_every_s,
        )
        self.refresh()

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """See `Source`. Other learners hear of it when they refresh."""
        with self._lock:
            super().feedback(windows, priorities)
            if time.monotonic() - self._sent_s > _SEND_S:
                self._send_hints()

    def close(self) -> None:
        """Disconnects. The arena goes with the last process that uses it."""
        super().close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._router.close()

    def _refresh(self) -> None:
        """Reads what is new and forgets what was evicted; shards that are away stay as they are."""
        self._send_hints()
        for reach, news in zip(self._reaches, self._at_all(self._ask), strict=True):
            self._learn(reach, news)

    def _send_hints(self) -> None:
        self._sent_s = time.monotonic()
        for number, payload in self._index.take_hints().items():
            with suppress(Away):  # they are worth little later on
                self._reaches[number].ask(partial(Shard.send_hints, payload=payload))

    def _ask(self, reach: Reach) -> News | Away | ExperienceLost:
        """Changes nothing: several of these run at once."""
        try:
            return reach.news(self._index.cursor(reach.number))
        except (Away, ExperienceLost) as error:
            return error

    def _learn(self, reach: Reach, news: News | Away | ExperienceLost) -> None:
        if isinstance(news, ExperienceLost):
            self._lose(reach, news)
        elif isinstance(news, News):
            self._index.add_many(reach.number, news.entries)
            self._index.drop_before(reach.number, news.oldest)
            for reach.hinted, payload in news.hints:
                self._index.give_hints(payload)

    def _lose(self, reach: Reach, error: ExperienceLost) -> None:
        """Goes on with what a shard has that lost experience, if the configuration allows that."""
        if self._on_loss == "stop":
            raise error
        known = self._index.chunks
        self._index.clear(reach.number)
        reach.hinted = reach.hinted and "0"
        others = self._index.chunks
        try:
            reach.epoch = reach.ask(lambda shard: shard.register(self.spec))
            news = reach.news(0)
        except Away:
            return  # the next look finds the same
        self._learn(reach, news)
        left = self._index.chunks - others
        _log.warning("%s Going on with %d chunks of it; %d were known.", error.message, left, known - others)

    def _forget(self, refs: Sequence[int]) -> None:
        """With these chunks all went that were older; or it is the shard that lost them."""
        for number in {self._index.shard(ref) for ref in refs}:
            news = self._ask(self._reaches[number])
            self._learn(self._reaches[number], replace(news, entries=[], hints=[]) if isinstance(news, News) else news)
        super()._forget(refs)

    def _bodies(self, refs: Sequence[int]) -> list[bytes | None]:
        wanted: dict[int, list[int]] = {}
        for ref in refs:
            wanted.setdefault(self._index.shard(ref), []).append(ref)
        ids = {number: [self._index.entry(ref).id for ref in some] for number, some in wanted.items()}

        def fetch(reach: Reach) -> dict[int, bytes | None] | Away:
            try:
                bodies = reach.ask(lambda shard: shard.fetch(ids[reach.number]))
            except Away as error:
                return error
            return dict(zip(wanted[reach.number], bodies, strict=True))

        found: dict[int, bytes | None] = {}
        away: list[Away] = []
        for reply in self._at_all(fetch, [self._reaches[number] for number in ids]):
            if isinstance(reply, Away):
                away.append(reply)
            else:
                found |= reply
        if away:
            raise Away({number for one in away for number in one.shards}, away[0].reason)
        return [found[ref] for ref in refs]

    def _wait(self, away: Away) -> None:
        time.sleep(_WAIT_S)
        for number in away.shards:
            self._reaches[number].hurry()

    def _at_all(self, do: Callable[[Reach], _T], reaches: Sequence[Reach] | None = None) -> list[_T]:
        """For each shard, all at once."""
        wanted = self._reaches if reaches is None else reaches
        return [do(wanted[0])] if len(wanted) == 1 else list(self._threads.map(do, wanted))
