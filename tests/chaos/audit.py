"""Promises against the replay: what was lost, doubled or torn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import redis
from counting import SPEC, chunk_violation
from ledger import Promise, read_ledgers

from replay import shard as _shard
from replay.codec import CorruptChunk, checksum_of, decode
from replay.config import ReplayConfig
from replay.router import Router
from replay.schema import Chunk, ChunkId, Entry
from replay.shard import OVERHEAD_BYTES, Shard

Stored = tuple[int, Entry, bytes | None]  # cursor, entry, body


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Each list names chunks and says what is wrong; `acknowledged` and `stored` count chunks."""

    acknowledged: int
    stored: int
    evicted: int
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicates or self.torn)


def audit(config: ReplayConfig, run: str, ledgers: Iterable[Path]) -> Audit:
    """Reads all that the shards hold, every body, and compares it with the ledgers."""
    promises, urls = read_ledgers(ledgers), config.url.split(",")
    router = Router(config, run, outage_s=10)
    try:
        shards = [_stored(shard) for shard in router.shards]
        counters = [shard.counters() for shard in router.shards]
    finally:
        router.close()
    entries = [entry for stored in shards for _, entry, _ in stored]
    evicted = sum(c["inserted_chunks"] - c["chunks"] for c in counters if "inserted_chunks" in c)
    duplicates, torn = _doubled(entries), _gaps(entries)
    for url, stored, counted in zip(urls, shards, counters, strict=True):
        duplicates += _miscounted(stored, counted)
        torn += [said for s in stored if (said := _torn(*s[1:]))] + _out_of_order(stored) + _orphans(url, run, stored)
    return Audit(
        acknowledged=len(promises),
        stored=len(entries),
        evicted=evicted,
        lost=_lost(promises.values(), entries, evicted),
        duplicates=duplicates,
        torn=torn,
    )


def _stored(shard: Shard) -> list[Stored]:
    found = list(shard.tail((0, 0) if hasattr(_shard, "Cursor") else 0))
    bodies: list[bytes | None] = []
    for at in range(0, len(found), 100):
        bodies += shard.fetch([entry.id for _, entry in found[at : at + 100]])
    return [(cursor, entry, body) for (cursor, entry), body in zip(found, bodies, strict=True)]


def _lost(promises: Iterable[Promise], entries: Sequence[Entry], evicted: int) -> list[str]:
    """Promised and not stored, or stored as something else. The oldest of each life may be gone if anything was
    evicted, but only as many as were evicted."""
    stored = {e.id: (e.steps, e.checksum) for e in entries}
    first: dict[tuple[str, int], int] = {}
    for id in sorted(stored, reverse=True):
        first[id.stream, id.incarnation] = id.seq
    lost, excused = [], 0
    for promise in promises:
        id = promise.id
        if id in stored:
            if stored[id] != (promise.steps, promise.checksum):
                lost.append(f"{id}: is stored with another content than was acknowledged")
        elif excused < evicted and id.seq < first.get((id.stream, id.incarnation), id.seq + 1):
            excused += 1
        else:
            lost.append(f"{id}: was acknowledged and is not there")
    return lost


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


def _torn(entry: Entry, body: bytes | None) -> str:
    if body is None:
        return f"{entry.id}: has no body"
    try:
        chunk = decode(body, SPEC)
    except CorruptChunk as error:
        return f"{entry.id}: {error}"
    return _unlike(entry, chunk, body) or chunk_violation(chunk)


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
