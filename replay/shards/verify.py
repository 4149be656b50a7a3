"""Whether a shard holds what it says: each entry of the index against its body, its neighbours and the sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from replay.codec import CorruptChunk, checksum_of, decode
from replay.schema import Chunk, Entry, EpisodeSpec
from replay.shards.commit import OVERHEAD_BYTES
from replay.shards.survey import Look, Stored, Surveyor


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One thing that is not as it should be: which shard, which chunk (or counter), and what of it."""

    shard: str
    what: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Finding:
    """What was found on one shard."""

    shard: str
    chunks: int = 0
    steps: int = 0
    bytes: int = 0
    episodes: int = 0
    evicted: int = 0  # chunks that went while we looked: writers need the room
    lives: set[str] = field(default_factory=set)  # "stream/incarnation"
    damages: list[Damage] = field(default_factory=list)

    def blame(self, what: object, reason: str) -> None:
        self.damages.append(Damage(shard=self.shard, what=str(what), reason=reason))


def verify_shard(surveyor: Surveyor, run: str, moved: Callable[[int], None] = lambda chunks: None) -> Finding:
    """Walks what the shard held when we began, and calls `moved` with the number of chunks done. Writes nothing.

    Raises TryAgain or BadInput if the shard does not answer or refuses us.
    """
    finding = Finding(shard=surveyor.name)
    spec = surveyor.spec()
    before = surveyor.see()
    walk = _Walk(finding, before)
    if spec is None:
        if before.counters.get("chunks"):
            finding.blame("spec", "the run has chunks but no episode spec")
        return finding
    for page in _pages(surveyor, before):
        bodies = surveyor.fetch([stored.entry.id for stored in page])
        for stored, body in zip(page, bodies, strict=True):
            walk.take(stored)
            if body is not None:
                _check_body(finding, stored, body, spec, run)
            elif surveyor.state().oldest <= stored.number:  # else it was evicted just now
                finding.blame(stored.entry.id, "the index names it, but its body is gone")
        moved(len(page))
    walk.end(surveyor.see())
    return finding


def check_lives(findings: list[Finding]) -> None:
    """Each life of a stream lives on one shard."""
    homes = Counter(life for finding in findings for life in finding.lives)
    for finding in findings:
        for life in sorted(life for life in finding.lives if homes[life] > 1):
            finding.blame(life, "this life has chunks on several shards")


def _pages(surveyor: Surveyor, before: Look) -> Iterator[list[Stored]]:
    """Up to the last chunk of the first look; later ones are not in its sums."""
    last = before.counters.get("inserted_chunks", 0)
    for page in surveyor.pages():
        kept = [stored for stored in page if stored.number <= last]
        if kept:
            yield kept
        if len(kept) < len(page):
            return


class _Walk:
    """Compares each entry with the ones before it, and the sums with the counters."""

    def __init__(self, finding: Finding, before: Look) -> None:
        self._finding, self._before = finding, before
        self._number = 0  # of the entry before
        self._last: dict[str, Entry] = {}  # of each life

    def take(self, stored: Stored) -> None:
        finding, entry = self._finding, stored.entry
        if self._number and stored.number != self._number + 1:
            finding.blame(entry.id, f"it is chunk {stored.number} of the index, after chunk {self._number}")
        self._number = stored.number
        life = f"{entry.id.stream}/{entry.id.incarnation}"
        if reason := _break(self._last.get(life), entry):
            finding.blame(entry.id, reason)
        self._last[life] = entry
        finding.lives.add(life)
        finding.chunks += 1
        finding.steps += entry.steps
        finding.bytes += stored.bytes
        finding.episodes += entry.first_step == 0

    def end(self, after: Look) -> None:
        finding, before = self._finding, self._before
        for life, entry in self._last.items():
            if (said := before.committed.get(life)) is not None and entry.id.seq != said:
                finding.blame(life, f"chunk {said} is committed, but the last one in the index is {entry.id.seq}")
        finding.evicted = max(0, after.oldest - before.oldest)
        if after.epoch != before.epoch:
            finding.blame("epoch", "the shard has other data than when we began")
        if finding.evicted:
            return  # the sums are those of another moment
        for name in ("chunks", "steps", "bytes", "episodes"):
            counted, found = before.counters.get(name, 0), getattr(finding, name)
            if counted != found:
                finding.blame(f"counter {name}", f"it says {counted}; the entries make {found}")
        if self._number and before.counters.get("inserted_chunks") != self._number:
            last = before.counters.get("inserted_chunks")
            finding.blame("counter inserted_chunks", f"it says {last}; the index ends with {self._number}")


def _break(last: Entry | None, entry: Entry) -> str:
    """Why `entry` cannot follow `last` in its life, or nothing."""
    if last is None:  # the oldest that is stored: what came before may be evicted
        return "it begins its life in the middle of an episode" if entry.id.seq == 0 and entry.first_step else ""
    if entry.id.seq != last.id.seq + 1:
        return f"it comes after chunk {last.id.seq} of its life"
    if entry.episode == last.episode and entry.first_step != last.first_step + last.steps:
        return f"it begins at step {entry.first_step} of an episode that is at {last.first_step + last.steps}"
    if entry.episode != last.episode and (entry.episode != last.episode + 1 or entry.first_step):
        return f"it begins at step {entry.first_step} of episode {entry.episode}, after episode {last.episode}"
    return ""


def _check_body(finding: Finding, stored: Stored, body: bytes, spec: EpisodeSpec, run: str) -> None:
    entry = stored.entry
    if len(body) + OVERHEAD_BYTES != stored.bytes:
        finding.blame(entry.id, f"the index says {stored.bytes} bytes; it has {len(body) + OVERHEAD_BYTES}")
    try:
        chunk = decode(body, spec)
    except CorruptChunk as error:
        finding.blame(entry.id, error.message)
        return
    if checksum_of(body) != entry.checksum:
        finding.blame(entry.id, "its checksum is not that of the index")
    theirs, mine = _facts(chunk), _facts(entry)
    for name in (name for name in mine if mine[name] != theirs[name]):
        finding.blame(entry.id, f"the index says {name} {mine[name]}; the body says {theirs[name]}")
    if chunk.run != run:
        finding.blame(entry.id, f"its body is of run {chunk.run!r}")


def _facts(chunk: Chunk | Entry) -> dict[str, object]:
    names = ("id", "episode", "first_step", "steps", "source", "policy_version")
    return {name: getattr(chunk, name) for name in names}
