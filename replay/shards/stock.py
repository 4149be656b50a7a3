"""Which episodes are whole in the replay, by the name of their stream, where each has a stream of its own.

A life of such a stream is one attempt at the episode. It may hold beginnings as well: of attempts whose environment
failed while its runner lived on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from replay.codec import decode
from replay.schema import Entry, EpisodeKey, EpisodeSpec
from replay.shards.survey import Surveyor


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """One episode as it is stored, from its first step to its last."""

    steps: int  # records
    total_reward: float
    terminated: bool


@dataclass(slots=True, kw_only=True)
class Inventory:
    """What the replay of one run holds."""

    whole: dict[str, Whole] = field(default_factory=dict)  # by stream
    kept: set[str] = field(default_factory=set)  # streams of known length that are there in full; not read again
    doubled: list[str] = field(default_factory=list)  # streams with more than one whole episode
    evicted: int = 0  # chunks that made room: what is not here may have been
    inserted: int = 0  # chunks ever


def take_stock(shards: Sequence[Surveyor], known: Mapping[str, int], only: Container[str] | None = None) -> Inventory:
    """Walks the index, and reads the bodies of episodes whose steps `known` does not have, or of streams in `only`
    alone. Writes nothing.

    Raises TryAgain or BadInput if a shard does not answer or refuses us.
    """
    found = Inventory()
    for shard in shards:
        counters = shard.see().counters
        found.inserted += counters.get("inserted_chunks", 0)
        found.evicted += counters.get("inserted_chunks", 0) - counters.get("chunks", 0)
        spec = shard.spec()
        for stream, entries in _attempts(shard):
            if spec is None or (only is not None and stream not in only) or not _contiguous(entries):
                continue
            if sum(entry.steps for entry in entries) == known.get(stream):
                _count(found, stream)
                found.kept.add(stream)
            elif whole := _read(shard, spec, entries):
                _count(found, stream)
                found.whole[stream] = whole
    return found


def look_up(shards: Sequence[Surveyor], streams: Sequence[str]) -> dict[str, Whole]:
    """Those of the streams that hold a whole episode. Asks for the lives first: most have none."""
    if not any(shard.newest_life(stream) for shard in shards for stream in streams):
        return {}
    return take_stock(shards, {}, only=streams).whole


def _count(found: Inventory, stream: str) -> None:
    if stream in found.whole or stream in found.kept:
        found.doubled.append(stream)


def _attempts(shard: Surveyor) -> Iterator[tuple[str, list[Entry]]]:
    """Stream and chunks, in order, of every episode as the replay counts them."""
    attempts: dict[EpisodeKey, list[Entry]] = defaultdict(list)
    for page in shard.pages(size=1000):
        for stored in page:
            attempts[stored.entry.episode_key].append(stored.entry)
    for key, entries in attempts.items():
        yield key.stream, sorted(entries, key=lambda entry: entry.id.seq)


def _contiguous(entries: Sequence[Entry]) -> bool:
    """Whether nothing is missing from the first step on."""
    at = 0
    for entry in entries:
        if entry.first_step != at:
            return False
        at += entry.steps
    return True


def _read(shard: Surveyor, spec: EpisodeSpec, entries: Sequence[Entry]) -> Whole | None:
    """None if the episode has not ended, or went while we looked."""
    (last,) = shard.fetch([entries[-1].id])
    end = decode(last, spec).arrays if last is not None else None
    if end is None or not end["is_last"][-1]:
        return None
    total = 0.0
    for entry in entries:
        (body,) = shard.fetch([entry.id])
        if body is None:
            return None
        total += float(decode(body, spec).arrays["reward"].sum(dtype="float64"))
    steps = sum(entry.steps for entry in entries)
    return Whole(steps=steps, total_reward=total, terminated=bool(end["is_terminal"][-1]))
