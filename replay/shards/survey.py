"""Looks at one shard for those who operate it. Nothing here writes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import NoPermissionError

from replay.errors import BadInput, TryAgain
from replay.schema import Entry, EpisodeSpec, FieldSpec
from replay.shards.replies import cursor_of, entry_of
from replay.shards.shard import Shard

# What a server says of itself, where it lets us see: names of INFO.
_INFO = (
    *("used_memory", "maxmemory", "mem_fragmentation_ratio", "evicted_keys", "redis_version", "loading"),
    *("aof_enabled", "aof_delayed_fsync", "aof_last_write_status", "aof_last_bgrewrite_status"),
    *("aof_rewrite_in_progress", "aof_current_size"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a shard says at one moment. One that does not answer has `problem` alone."""

    name: str
    at_s: float  # time.monotonic()
    problem: str = ""
    code: int = 0  # the exit code of the problem
    away_s: float = 0.0  # for how long this process has found it away
    epoch: str = ""  # empty: the run is not on this shard
    counters: dict[str, int] = field(default_factory=dict)  # see Shard.counters
    oldest: int = 0  # number of the oldest chunk still stored
    lives: dict[str, int] = field(default_factory=dict)  # stream -> number of its newest life
    committed: dict[str, int] = field(default_factory=dict)  # "stream/incarnation" -> last sequence number
    sampled: dict[str, int] = field(default_factory=dict)  # consumer -> steps that it has drawn
    server: dict[str, Any] = field(default_factory=dict)  # names of _INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One entry of the index as it stands there."""

    number: int  # of the chunk, counted by its shard
    entry: Entry
    bytes: int  # as the budget counts them


class Surveyor(Shard):
    """A shard to be looked at."""

    def look(self) -> Look:
        """What there is to see, or why there is nothing: a server that is away or refuses us."""
        try:
            return self.see()
        except (TryAgain, BadInput) as error:
            now, since = time.monotonic(), self.away_since
            away_s = now - since if since is not None else 0.0
            return Look(name=self.name, at_s=now, problem=error.message, code=error.exit_code, away_s=away_s)

    def see(self) -> Look:
        """What there is to see. Raises TryAgain or BadInput."""
        return self._call("looking at the shard", self._see)

    def spec(self) -> EpisodeSpec | None:
        """The run's, or None if nobody has registered one here."""
        text = self._call("reading the episode spec", lambda r: r.get(self._key("spec")))
        if text is None:
            return None
        rows = (f | {"shape": tuple(f["shape"])} for f in json.loads(text))
        return EpisodeSpec(fields=tuple(FieldSpec(**row) for row in rows))

    def stored(self, after: int, count: int) -> list[Stored]:
        """The next `count` entries of the index later than number `after`."""
        page = self._call(
            "reading the index", lambda r: r.xrange(self._key("index"), f"({after}-18446744073709551615", "+", count)
        )
        return [_stored(*item) for item in page]

    def newest(self, count: int) -> list[Stored]:
        """The last `count` entries of the index, in the order of the commits."""
        page = self._call("reading the index", lambda r: r.xrevrange(self._key("index"), count=count))
        return [_stored(*item) for item in reversed(page)]

    def pages(self, after: int = 0, size: int = 64) -> Iterator[list[Stored]]:
        """All entries later than number `after`."""
        while page := self.stored(after, size):
            yield page
            after = page[-1].number

    def _see(self, r: Any) -> Look:
        pipe = r.pipeline()  # a transaction: counters and index agree
        pipe.get(self._key("epoch"))
        pipe.hgetall(self._key("counters"))
        pipe.hgetall(self._key("incarnations"))
        pipe.hgetall(self._key("committed"))
        pipe.hgetall(self._key("sampled"))
        pipe.xrange(self._key("index"), "-", "+", 1)
        epoch, counters, lives, committed, sampled, oldest = pipe.execute()
        counted = {name: int(n) for name, n in _text(counters)} | {"streams": len(lives)}
        return Look(
            name=self.name,
            at_s=time.monotonic(),
            epoch=(epoch or b"").decode(),
            counters=counted,
            oldest=cursor_of(oldest[0][0]) if oldest else counted.get("inserted_chunks", 0) + 1,
            lives={name: int(n) for name, n in _text(lives)},
            committed={name: int(said.partition(":")[0]) for name, said in _text(committed)},
            sampled={name: int(n) for name, n in _text(sampled)},
            server=_server(r),
        )


def _server(r: Any) -> dict[str, Any]:
    try:
        said = r.info()
    except NoPermissionError:  # not ours to see
        return {}
    return {name: said[name] for name in _INFO if name in said}


def _text(pairs: dict[bytes, bytes]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in pairs.items()]


def _stored(stream_id: bytes, fields: dict[bytes, bytes]) -> Stored:
    return Stored(number=cursor_of(stream_id), entry=entry_of(fields), bytes=int(fields[b"bytes"]))
