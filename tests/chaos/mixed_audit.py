"""What a collection left, read from its replay chunk by chunk, against its ledger, its manifest and its fleet."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from actors.envs.registry import EnvConfig, make
from actors.runner import episode_seed
from distwm.overrides import apply
from replay.codec import decode
from replay.schema import Chunk, EpisodeKey
from replay.shards.server import EmbeddedRedis
from replay.shards.survey import Surveyor

LOOKED_AT = 10  # episodes of each order whose start is played again


@dataclass(slots=True, kw_only=True)
class Kept:
    """One episode in the replay, or the beginning of one."""

    steps: int
    ended: bool
    wrong: str  # why it is no episode from its first step on; empty: it is
    sources: frozenset[str]
    prints: tuple[str, ...]  # of observations, actions and rewards, step by step
    start: Mapping[str, np.ndarray]  # what it first shows, without pictures

    def begins(self, other: Kept) -> bool:
        return self.prints == other.prints[: self.steps]


@dataclass(slots=True, kw_only=True)
class Found:
    """One order. `wrong` says what breaks the promise; the rest is counted."""

    key: str
    episodes: int = 0
    steps: int = 0  # of whole episodes
    beginnings: int = 0  # attempts that a kill ended
    recovered: int = 0  # episodes whose runner died before it could say that they were done
    returned: float = 0.0  # mean
    counters: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    alike: int = 0  # episodes that are like another one: tasks with few starts, and policies that draw nothing
    starts: int = 0  # episodes that were looked at and start where seed and number say
    same: int = 0  # beginnings that are the same, step by step, as the episode that was played in the end
    times: Sequence[tuple[float, int]] = ()  # seconds of collecting, steps so far
    wrong: list[str] = field(default_factory=list)


def audit(out: Path) -> list[Found]:
    """Of every order. Serves the replay meanwhile."""
    manifest = json.loads((out / "collect.json").read_text())
    lines = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    server = EmbeddedRedis(out / "replay", manifest["settings"]["replay.max_bytes"])
    try:
        url = server.start()
        found = [_order(url, key, row, lines, manifest) for key, row in manifest["orders"].items()]
    finally:
        server.stop()
    return found


def _order(url: str, key: str, row: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], manifest: Mapping) -> Found:
    shard = Surveyor(url, row["run"], 5.0, 10.0)
    kept, counters, sums = {k: _kept(chunks) for k, chunks in _episodes(shard)}, shard.counters(), _sums(shard)
    shard.close()
    noted = [line for line in lines if line["order"] == key]
    found = Found(key=key, counters=counters, failures=row["failures"], recovered=row["recovered"])
    found.episodes, found.steps = len(noted), sum(line["steps"] for line in noted)
    found.returned = float(np.mean([line["total_reward"] for line in noted])) if noted else 0.0
    found.times = [(at, s) for at, s in zip(_column(noted, "at_s"), np.cumsum(_column(noted, "steps")), strict=True)]
    found.beginnings = sum(not one.ended for one in kept.values())
    found.wrong += [f"{k}: {one.wrong}" for k, one in kept.items() if one.wrong]
    found.wrong += [f"{k}: is labelled {set(one.sources)}" for k, one in kept.items() if one.sources != {row["policy"]}]
    found.wrong += _against_ledger(row["policy"], kept, noted)
    found.wrong += _against_counters(row, counters, sums, manifest, found)
    found.wrong += _elsewhere(row, kept, manifest["settings"], found)
    found.alike = len(noted) - len({one.prints for one in kept.values() if one.ended})
    found.same = _same(kept)
    return found


def _episodes(shard: Surveyor) -> Iterator[tuple[EpisodeKey, list[Chunk]]]:
    """Every episode as the replay counts them, its chunks in order."""
    spec, chunks = shard.spec(), defaultdict(list)
    assert spec is not None
    for page in shard.pages():
        for stored, body in zip(page, shard.fetch([s.entry.id for s in page]), strict=True):
            assert body is not None, f"{stored.entry.id} has no body"
            chunks[stored.entry.episode_key].append(decode(body, spec))
    for key, mine in chunks.items():
        yield key, sorted(mine, key=lambda chunk: chunk.id.seq)


def _kept(chunks: Sequence[Chunk]) -> Kept:
    arrays = {name: np.concatenate([c.arrays[name] for c in chunks]) for name in chunks[0].arrays}
    first, last, terminal = (arrays[name] for name in ("is_first", "is_last", "is_terminal"))
    steps, wrong = len(first), []
    if [c.first_step for c in chunks] != [0, *np.cumsum([c.steps for c in chunks])[:-1]]:
        wrong.append("has a gap")
    if list(np.flatnonzero(first)) != [0]:
        wrong.append(f"begins at {np.flatnonzero(first)}")
    if last[:-1].any():
        wrong.append("goes on after its end")
    if (terminal & ~last).any():
        wrong.append("is terminal before its end")
    shown = [name for name in arrays if name not in ("is_first", "is_last", "is_terminal")]
    prints = [hashlib.blake2b(b"".join(arrays[n][t].tobytes() for n in shown)).hexdigest() for t in range(steps)]
    start = {n: a[0] for n, a in arrays.items() if n in shown and a.dtype != np.uint8 and n not in ("action", "reward")}
    return Kept(
        steps=steps,
        ended=bool(last[-1]),
        wrong="; ".join(wrong),
        sources=frozenset(chunk.source for chunk in chunks),
        prints=tuple(prints),
        start=start,
    )


def _against_ledger(policy: str, kept: Mapping[EpisodeKey, Kept], noted: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every line is one whole episode of that length, and there are no others."""
    whole = Counter(key.stream for key, one in kept.items() if one.ended)
    lengths = {key.stream: one.steps for key, one in kept.items() if one.ended}
    yield from (f"{stream}: is there {times} times" for stream, times in whole.items() if times > 1)
    lines = {f"{policy}/{line['number']}": line["steps"] for line in noted}
    if len(lines) < len(noted):
        yield f"the ledger has {len(noted)} lines of {len(lines)} episodes"
    yield from (f"{stream}: is in the ledger and not whole in the replay" for stream in lines.keys() - lengths.keys())
    yield from (f"{stream}: is whole in the replay and not in the ledger" for stream in lengths.keys() - lines.keys())
    both = lines.keys() & lengths.keys()
    yield from (f"{s}: has {lengths[s]} steps, in the ledger {lines[s]}" for s in both if lines[s] != lengths[s])


def _against_counters(
    row: Mapping[str, Any], counters: Mapping[str, int], sums: Mapping[str, int], manifest: Mapping, found: Found
) -> Iterator[str]:
    done, said = row["done"], manifest["replay"][row["run"]]
    if (done["episodes"], done["steps"]) != (found.episodes, found.steps):
        yield f"the manifest counts {done}, the ledger {found.episodes} episodes of {found.steps} steps"
    for name, value in sums.items():
        if not value == counters[name] == said[name]:
            yield f"{name}: {value} are stored, the replay counts {counters[name]}, the manifest {said[name]}"
    fleet = sum(r["episodes"] for r in manifest["runners"] if f"{r['task']}={row['policy']}" == found.key)
    if fleet + found.recovered != found.episodes:
        yield f"the fleet counts {fleet} episodes, {found.recovered} were recovered, {found.episodes} are in the ledger"


def _elsewhere(
    row: Mapping[str, Any], kept: Mapping[EpisodeKey, Kept], settings: Mapping[str, Any], found: Found
) -> Iterator[str]:
    """Episodes that do not start where their seed and number say. Plays none: resets the environment, a few times."""
    given = {k.removeprefix("env."): v for k, v in settings.items() if k.startswith("env.")}
    env = make(apply(EnvConfig(), given | {"task": row["task"]}), seed=0)
    whole = [(key, one) for key, one in kept.items() if one.ended]
    for key, one in whole[:: max(1, len(whole) // LOOKED_AT)]:
        shown, _ = env.reset(seed=episode_seed(row["seed"], int(key.stream.rpartition("/")[2])))
        if all(name == "count" or np.array_equal(shown[name], value) for name, value in one.start.items()):
            found.starts += 1
        else:
            yield f"{key}: does not start where its seed says"
    env.close()


def _sums(shard: Surveyor) -> dict[str, int]:
    entries = [stored.entry for page in shard.pages() for stored in page]
    steps, begun = sum(entry.steps for entry in entries), sum(entry.first_step == 0 for entry in entries)
    return {"chunks": len(entries), "steps": steps, "episodes": begun}


def _same(kept: Mapping[EpisodeKey, Kept]) -> int:
    whole = {key.stream: one for key, one in kept.items() if one.ended}
    beginnings = ((key.stream, one) for key, one in kept.items() if not one.ended)
    return sum(stream in whole and one.begins(whole[stream]) for stream, one in beginnings)


def _column(lines: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [line[name] for line in lines]
