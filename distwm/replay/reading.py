"""What looks at the shards mean, together and over time: sums, rates, who moves, who is held back, what was lost."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from replay.config import LimiterConfig
from replay.shards.limiter import Limiter
from replay.shards.survey import Look

_WINDOW_S = 10.0  # over which rates are taken


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRow:
    """One shard. What it counts is that of its last answer."""

    name: str
    state: str  # "ok", "away", "loading", "unknown" (of this run), "lost"
    problem: str = ""
    away_s: float = 0.0
    used_bytes: int = 0  # of the server's memory
    limit_bytes: int = 0  # 0: none, or not ours to see
    stored_bytes: int = 0
    budget_bytes: int = 0  # 0: unknown
    chunks: int = 0
    episodes: int = 0
    steps: int = 0
    inserted_per_s: float = 0.0
    file: str = ""  # the append-only file
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """The newest life of a stream."""

    name: str
    shard: str  # empty: it has committed nothing yet
    life: int
    chunks: int  # committed in this life
    quiet_s: float | None  # since we saw it commit; None: not since we began to look


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerRow:
    """Who draws from the replay. The lag is that of its report: how long ago it said something new, if we saw it."""

    name: str
    sampled: int  # steps
    sampled_per_s: float
    lag_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The whole replay at one moment."""

    shards: tuple[ShardRow, ...]
    streams: tuple[StreamRow, ...]
    consumers: tuple[ConsumerRow, ...]
    inserted_steps: int
    stored_steps: int
    inserted_per_s: float
    sampled_steps: int
    sampled_per_s: float
    wanted: float | None  # samples per insert; 0 = no limit, None = unknown
    held: tuple[str, ...]  # who waits for whom, and why
    losses: tuple[str, ...]  # seen since we began to look

    @property
    def ratio(self) -> float:
        """Samples per insert so far."""
        return self.sampled_steps / self.inserted_steps if self.inserted_steps else 0.0


@dataclass(slots=True)
class _Track:
    """A count as it grows."""

    points: deque[tuple[float, int]] = field(default_factory=deque)
    moved_s: float | None = None  # when we saw it change

    def add(self, at_s: float, count: int) -> None:
        if self.points and self.points[-1][1] != count:
            self.moved_s = at_s
        self.points.append((at_s, count))
        while len(self.points) > 2 and at_s - self.points[1][0] >= _WINDOW_S:
            self.points.popleft()

    def quiet_s(self, now_s: float) -> float | None:
        return None if self.moved_s is None else now_s - self.moved_s

    @property
    def rate(self) -> float:
        (begin_s, first), (end_s, last) = self.points[0], self.points[-1]
        return max(0.0, (last - first) / (end_s - begin_s)) if end_s > begin_s else 0.0


class Reader:
    """Remembers earlier looks: rates need two."""

    def __init__(self, shard_bytes: int = 0, limiter: LimiterConfig | None = None, chunk_steps: int = 1) -> None:
        """`shard_bytes`: the budget of each shard. Whatever is left out is unknown."""
        self._budget, self._chunk_steps = shard_bytes, chunk_steps
        self._wanted = limiter.samples_per_insert if limiter else None
        self._limiter = Limiter(limiter or LimiterConfig())
        self._known: dict[str, Look] = {}  # the last answer of each shard
        self._tracks: dict[tuple[str, str], _Track] = {}
        self._losses: list[str] = []

    def read(self, looks: Sequence[Look]) -> Reading:
        """Takes one look at each shard into account."""
        for look in looks:
            if not look.problem:
                self._compare(look)
                self._known[look.name] = look
                self._track("inserted", look.name, look.at_s, look.counters.get("inserted_steps", 0))
        known = list(self._known.values())
        inserted, sampled = _sum(known, "inserted_steps"), _largest(look.sampled for look in known)
        return Reading(
            shards=tuple(self._shard(look) for look in looks),
            streams=tuple(self._streams(known)),
            consumers=tuple(self._consumers(sampled)),
            inserted_steps=inserted,
            stored_steps=_sum(known, "steps"),
            inserted_per_s=sum(self._tracks["inserted", look.name].rate for look in known),
            sampled_steps=sum(sampled.values()),
            sampled_per_s=sum(self._tracks["sampled", name].rate for name in sampled),
            wanted=self._wanted,
            held=tuple(self._held(inserted, sum(sampled.values()))),
            losses=tuple(self._losses),
        )

    def _compare(self, look: Look) -> None:
        before = self._known.get(look.name)
        if before is None or not before.epoch:
            return
        if look.epoch != before.epoch:
            came = "with another data set" if look.epoch else "empty"
            self._losses.append(f"{look.name} came back {came}")
        elif look.counters.get("inserted_chunks", 0) < before.counters.get("inserted_chunks", 0):
            gone = before.counters["inserted_chunks"] - look.counters.get("inserted_chunks", 0)
            self._losses.append(f"{look.name} came back with older data, without its last {gone} chunks")

    def _shard(self, look: Look) -> ShardRow:
        last, server = self._known.get(look.name, look), self._known.get(look.name, look).server
        counters = last.counters
        return ShardRow(
            name=look.name,
            state=_state(look),
            problem=look.problem,
            away_s=look.away_s,
            used_bytes=server.get("used_memory", 0),
            limit_bytes=server.get("maxmemory", 0),
            stored_bytes=counters.get("bytes", 0),
            budget_bytes=self._budget,
            chunks=counters.get("chunks", 0),
            episodes=counters.get("episodes", 0),
            steps=counters.get("steps", 0),
            inserted_per_s=0.0 if look.problem else self._tracks["inserted", look.name].rate,
            file=_file(server),
            alarms=tuple(_alarms(server)),
        )

    def _streams(self, known: Sequence[Look]) -> list[StreamRow]:
        rows, now_s = [], time.monotonic()
        for name, life in _largest(look.lives for look in known).items():
            homes = {
                look.name: look.committed[f"{name}/{life}"] for look in known if f"{name}/{life}" in look.committed
            }
            shard = max(homes, key=homes.__getitem__, default="")
            chunks = homes.get(shard, -1) + 1
            track = self._track("stream", name, now_s, chunks + 10**9 * life)
            rows.append(StreamRow(name=name, shard=shard, life=life, chunks=chunks, quiet_s=track.quiet_s(now_s)))
        return sorted(rows, key=lambda row: (math.inf if row.quiet_s is None else row.quiet_s, row.name))

    def _consumers(self, sampled: Mapping[str, int]) -> list[ConsumerRow]:
        rows, now_s = [], time.monotonic()
        for name, steps in sorted(sampled.items()):
            track = self._track("sampled", name, now_s, steps)
            rows.append(ConsumerRow(name=name, sampled=steps, sampled_per_s=track.rate, lag_s=track.quiet_s(now_s)))
        return rows

    def _held(self, inserted: int, sampled: int) -> Iterable[str]:
        insert = self._limiter.may_insert(inserted, sampled, self._chunk_steps)
        sample = self._limiter.may_sample(inserted, sampled, 1)
        if not insert.ok:
            yield f"actors wait: {insert.reason}"
        if not sample.ok:
            yield f"learners wait: {sample.reason}"

    def _track(self, kind: str, name: str, at_s: float, count: int) -> _Track:
        track = self._tracks.setdefault((kind, name), _Track())
        track.add(at_s, count)
        return track


def _state(look: Look) -> str:
    if look.problem:
        return "away"
    if look.server.get("loading"):
        return "loading"
    return "ok" if look.epoch else "unknown"


def _file(server: Mapping[str, object]) -> str:
    if not server:
        return ""
    if not server.get("aof_enabled"):
        return "off"
    return "rewriting" if server.get("aof_rewrite_in_progress") else "ok"


def _alarms(server: Mapping[str, object]) -> Iterable[str]:
    """What an operator should look into."""
    if server.get("evicted_keys"):
        yield f"Redis itself evicted {server['evicted_keys']} keys: set maxmemory-policy noeviction"
    if server.get("aof_last_write_status", "ok") != "ok":
        yield "the append-only file cannot be written: is the disk full?"
    if server.get("aof_last_bgrewrite_status", "ok") != "ok":
        yield "the last rewrite of the append-only file failed: memory or disk is short"
    if server.get("aof_delayed_fsync"):
        yield f"{server['aof_delayed_fsync']} writes waited for a slow disk"


def _sum(known: Iterable[Look], counter: str) -> int:
    return sum(look.counters.get(counter, 0) for look in known)


def _largest(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """By name; every shard is told the same, but one may have missed the last of it."""
    found: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            found[name] = max(found.get(name, 0), count)
    return found
