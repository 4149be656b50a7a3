"""Promises against the replay: what was lost, doubled or torn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import redis
from counting import SPEC, Check
from ledger import Promise, read_ledgers

from replay.codec import CorruptChunk, checksum_of, decode
from replay.config import ReplayConfig
from replay.schema import Chunk, ChunkId, Entry
from replay.shards.router import Router
from replay.shards.shard import OVERHEAD_BYTES, Shard

SLACK_S = 1.0  # between the commit of a chunk and its line in a ledger
Stored = tuple[int, Entry, bytes | None]  # cursor, entry, body


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Each list names chunks and says what is wrong; `acknowledged` and `stored` count chunks."""

    acknowledged: int
    stored: int
    evicted: int
    lives: Mapping[tuple[str, int], int]  # chunks stored, by (stream, incarnation)
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicates or self.torn)


def audit(config: ReplayConfig, run: str, ledgers: Iterable[Path], since: float = 0.0, live: bool = False) -> Audit:
    """Reads all that the shards hold, every body, and compares it with what the ledgers promise later than `since`.

    `live`: while others write. Counters and bodies without an index entry are left out then.
    """
    promises = {p.id: p for p in read_ledgers(ledgers).values() if p.at > since}
    urls = config.url.split(",")
    router = Router(config, run, outage_s=10)
    try:
        shards = [_stored(shard) for shard in router.shards]
        counters = [shard.counters() for shard in router.shards]
    finally:
        router.close()
    entries = [entry for stored in shards for _, entry, _ in stored]
    evicted = sum(c.get("inserted_chunks", 0) - c.get("chunks", 0) for c in counters)
    duplicates, torn = _doubled(entries), _gaps(entries)
    check = Check()
    for url, stored, counted in zip(urls, shards, counters, strict=True):
        torn += [said for s in stored if (said := _torn(*s[1:], check))] + _out_of_order(stored)
        if not live:
            duplicates += _miscounted(stored, counted)
            torn += _orphans(url, run, stored)
    return Audit(
        acknowledged=len(promises),
        stored=len(entries),
        evicted=evicted,
        lives=Counter((e.id.stream, e.id.incarnation) for e in entries),
        lost=_lost(promises, shards, evicted),
        duplicates=duplicates,
        torn=torn,
    )


def _stored(shard: Shard) -> list[Stored]:
    found = list(shard.tail(0))
    bodies: list[bytes | None] = []
    for at in range(0, len(found), 100):
        bodies += shard.fetch([entry.id for _, entry in found[at : at + 100]])
    oldest = shard.state().oldest  # what was evicted while we read does not count
    return [(cursor, entry, body) for (cursor, entry), body in zip(found, bodies, strict=True) if cursor >= oldest]


def _lost(promises: Mapping[ChunkId, Promise], shards: Sequence[Sequence[Stored]], evicted: int) -> list[str]:
    """Promised and not stored, or stored as something else. Evicted chunks are excused: they are older than what is
    left, and no more of them are missing than were evicted."""
    stored = {entry.id: (entry.steps, entry.checksum) for found in shards for _, entry, _ in found}
    horizon = max((_oldest(promises, found) for found in shards), default=0.0) + SLACK_S
    lost, excused = [], 0
    for promise in promises.values():
        if promise.id in stored:
            if stored[promise.id] != (promise.steps, promise.checksum):
                lost.append(f"{promise.id}: is stored with another content than was acknowledged")
        elif excused < evicted and promise.at < horizon:
            excused += 1
        else:
            lost.append(f"{promise.id}: was acknowledged and is not there")
    return lost


def _oldest(promises: Mapping[ChunkId, Promise], stored: Sequence[Stored]) -> float:
    """When the oldest promised chunk that a shard still holds was acknowledged."""
    return min((promises[entry.id].at for _, entry, _ in stored if entry.id in promises), default=0.0)


def _doubled(entries: Sequence[Entry]) -> list[str]:
    seen: set[ChunkId] = set()
    return [f"{e.id}: is in the index twice" for e in entries if e.id in seen or seen.add(e.id)]


def _miscounted(stored: Sequence[Stored], counted: dict[str, int]) -> list[str]:
    """Counters that are not the sums of what is stored: something counted twice, or not at all."""
    sums = {
        "chunks": len(stored),
        "steps": sum(entry.steps for _, entry, _ in stored),
        "bytes": sum(len(body or b"") + OVERHEAD_BYTES for _, _, body in stored),
        "episodes": sum(entry.first_step == 0 for _, entry, _ in stored),
    }
    return [f"counter {n} is {counted.get(n, 0)}, not {s}" for n, s in sums.items() if counted.get(n, 0) != s]


def _torn(entry: Entry, body: bytes | None, check: Check) -> str:
    if body is None:
        return f"{entry.id}: has no body"
    try:
        chunk = decode(body, SPEC)
    except CorruptChunk as error:
        return f"{entry.id}: {error}"
    return _unlike(entry, chunk, body) or check.chunk(chunk)


def _unlike(entry: Entry, chunk: Chunk, body: bytes) -> str:
    inside = (chunk.id, chunk.episode, chunk.first_step, chunk.steps, chunk.source, checksum_of(body))
    outside = (entry.id, entry.episode, entry.first_step, entry.steps, entry.source, entry.checksum)
    return "" if inside == outside else f"{entry.id}: the index says {outside}, the body {inside}"


def _gaps(entries: Sequence[Entry]) -> list[str]:
    """Chunks of a life that do not follow one another: a number left out, or steps of an episode."""
    gaps = []
    for before, after in pairwise(sorted(set(entries), key=lambda e: e.id)):
        if (before.id.stream, before.id.incarnation) != (after.id.stream, after.id.incarnation):
            continue
        if after.id.seq != before.id.seq + 1:
            gaps.append(f"{after.id}: comes right after {before.id}")
        same = after.episode == before.episode
        if after.first_step != (before.first_step + before.steps if same else 0):
            gaps.append(f"{after.id}: begins at step {after.first_step}, {before.id} ended before that")
    return gaps


def _out_of_order(stored: Sequence[Stored]) -> list[str]:
    """Chunks of a life whose place in the index is not the order of their numbers, and cursors that do not grow."""
    newest: dict[tuple[str, int], int] = {}
    wrong = []
    for _, entry, _ in stored:
        id = entry.id
        if newest.get((id.stream, id.incarnation), -1) >= id.seq:
            wrong.append(f"{id}: was stored after a later chunk")
        newest[id.stream, id.incarnation] = id.seq
    wrong += [f"cursor {b} follows {a}" for (a, *_), (b, *_) in pairwise(stored) if b <= a]
    return wrong


def _orphans(url: str, run: str, stored: Sequence[Stored]) -> list[str]:
    """Bodies that no index entry names."""
    client = redis.Redis.from_url(url)
    named = {str(entry.id) for _, entry, _ in stored}
    keys = (key.decode().partition(":chunk:")[2] for key in client.scan_iter(f"{{distwm:{run}}}:chunk:*", 1000))
    orphans = [f"{key}: a body that no index names" for key in keys if key not in named]
    client.close()
    return orphans
