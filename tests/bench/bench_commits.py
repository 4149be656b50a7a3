"""Commits: 4 processes send chunks of 64 steps (64x64x3 uint8, state, action, reward, flags) to one Redis with an
append-only file (durability=process). Against a plain redis-py pipeline of SET and XADD, which promises nothing: it
counts no bytes, evicts nothing by itself, stores a retry twice and does not know whether the server lost something.

    commit      chunks encoded beforehand: what the shard takes
    pipeline    the same bodies through the plain pipeline
    add         ReplayWriter.add of 64 records: checks, copies, encodes, commits
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import redis
from timing import arguments, ratio, table

from replay.config import ReplayConfig
from replay.schema import Chunk, ChunkId, EpisodeSpec
from replay.shards.commit import Claim
from replay.shards.router import Router
from replay.shards.server import EmbeddedRedis
from replay.writing.sealed import Sealed, seal
from replay.writing.writer import ReplayWriter

SPEC = EpisodeSpec.build({"image": ((64, 64, 3), "uint8"), "state": ((24,), "float32")}, action_dim=6)
STEPS, PROCESSES, SECONDS, VARIANTS = 64, 4, 2.0, 16
BYTES = 2**29  # budget of the replay


def frames(kind: str, rng: np.random.Generator) -> np.ndarray:
    """(T, 64, 64, 3): noise, or four sprites that move over a background of one colour with a floor."""
    if kind == "noise":
        return rng.integers(0, 256, (STEPS, 64, 64, 3), np.uint8)
    video = np.empty((STEPS, 64, 64, 3), np.uint8)
    video[:, :44], video[:, 44:] = rng.integers(0, 256, 3, np.uint8), rng.integers(0, 256, 3, np.uint8)
    for _ in range(4):
        sprite = rng.integers(0, 256, (8, 8, 3), np.uint8)
        at = (rng.integers(0, 56, 2) + np.cumsum(rng.integers(-2, 3, (STEPS, 2)), 0)).clip(0, 56)
        for t, (y, x) in enumerate(at):
            video[t, y : y + 8, x : x + 8] = sprite
    return video


def episode(kind: str, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {f.name: np.zeros((STEPS, *f.shape), f.dtype) for f in SPEC.fields}
    arrays["image"] = frames(kind, rng)
    arrays["state"][:] = rng.normal(size=arrays["state"].shape)
    arrays["action"][1:] = rng.uniform(-1, 1, arrays["action"][1:].shape)
    arrays["is_first"][0] = arrays["is_last"][-1] = True
    return arrays


def chunk(kind: str, seed: int) -> Chunk:
    return Chunk(
        id=ChunkId("bench", 1, 0),
        episode=0,
        first_step=0,
        policy_version=0,
        source="random",
        spec_hash=SPEC.hash,
        arrays=episode(kind, seed),
    )


Act = Callable[[int], object]  # sends the n-th chunk
Turns = dict[str, list[tuple[list[float], float]]]  # by side, of each turn: seconds of each chunk, and of all of them


def committing(config: ReplayConfig, bodies: list[Sealed], who: str) -> Act:
    router = Router(config, "bench")
    router.register(SPEC)
    shard, life = router.begin_life(who)

    def act(n: int) -> None:
        entry = replace(bodies[n % VARIANTS].entry, id=ChunkId(who, life.incarnation, n))
        claim = Claim(life=life, acknowledged=n - 1)
        shard.commit(entry, bodies[n % VARIANTS].body, router.max_bytes, claim)

    return act


def piping(config: ReplayConfig, bodies: list[Sealed], who: str) -> Act:
    client = redis.Redis.from_url(config.url)
    kept = max(1, config.max_bytes // PROCESSES // len(bodies[0].body))  # older ones are written over

    def act(n: int) -> None:
        entry, pipe = bodies[n % VARIANTS].entry, client.pipeline(transaction=False)
        pipe.set(f"plain:{who}:{n % kept}", bodies[n % VARIANTS].body)
        pipe.xadd("plain:index", {"id": f"{who}/{n}", "steps": entry.steps, "episode": n}, maxlen=kept)
        pipe.execute()

    return act


def adding(config: ReplayConfig, kind: str, who: str) -> tuple[Act, Callable[[], None]]:
    """And what waits until all is acknowledged: a slow server's chunks go by way of the disk."""
    writer = ReplayWriter(config, "bench", who, SPEC)
    episodes = [episode(kind, seed) for seed in range(VARIANTS)]
    records = [[{k: a[t] for k, a in arrays.items()} for t in range(STEPS)] for arrays in episodes]

    def act(n: int) -> None:
        for record in records[n % VARIANTS]:
            writer.add(record, source="random", policy_version=0)

    return act, writer.flush


def work(config: ReplayConfig, kind: str, number: int, turns: int, together: Barrier, results: Queue[Turns]) -> None:
    """One process: the sides turn by turn, at the same time as the other processes."""
    bodies = [seal(chunk(kind, seed), "lz4", True) for seed in range(VARIANTS)]
    add, flush = adding(config, kind, f"add{number}")
    acts = {
        "commit": committing(config, bodies, f"commit{number}"),
        "pipeline": piping(config, bodies, f"pipe{number}"),
        "add": add,
    }
    sent, found = dict.fromkeys(acts, 0), {name: [] for name in acts}
    for turn in range(turns + 1):
        for name in list(acts)[:: 1 if turn % 2 else -1]:
            together.wait(timeout=120)
            taken, start = [], time.perf_counter()
            while (begun := time.perf_counter()) < start + (SECONDS if turn else 0.3):
                acts[name](sent[name])
                taken.append(time.perf_counter() - begun)
                sent[name] += 1
            flush()
            if turn:  # the first one warms up
                found[name].append((taken, time.perf_counter() - start))
    results.put(found)


def measure(kind: str, turns: int) -> list[Turns]:
    """Of each process."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = EmbeddedRedis(Path(folder), 2 * BYTES)  # room for the pipeline's as well
        config = ReplayConfig(url=server.start(), max_bytes=BYTES, chunk_steps=STEPS, spool_dir=f"{folder}/spool")
        together, results = context.Barrier(PROCESSES), context.Queue()
        processes = [
            context.Process(target=work, args=(config, kind, number, turns, together, results), daemon=True)
            for number in range(PROCESSES)
        ]
        try:
            for process in processes:
                process.start()
            return [results.get(timeout=240 + 4 * SECONDS * turns) for _ in processes]
        finally:
            for process in processes:
                process.join(timeout=10)
            server.stop()


def main(turns: int = 4) -> dict[str, float]:
    """Prints the table; returns chunks/s by kind of frames and side."""
    rates, rows = {}, []
    for kind in ("sprites", "noise"):
        size = len(seal(chunk(kind, 0), "lz4", True).body) / 1024
        found = measure(kind, turns)
        each = {side: [_rate(found, side, turn) for turn in range(turns)] for side in found[0]}
        for side, by_turn in each.items():
            taken_ms = [1000 * s for process in found for turn in process[side] for s in turn[0]]
            figures = [f"{np.percentile(taken_ms, q):.1f}" for q in (50, 99)]
            rate, against = median(by_turn), ratio(by_turn, each["pipeline"])
            rows.append([kind, f"{size:.0f}", side, f"{rate:.0f}", f"{rate * STEPS:.0f}", *figures, f"{against:.2f}x"])
            rates[f"{kind} {side}"] = rate
    table(["frames", "KiB/chunk", "side", "chunks/s", "steps/s", "p50 ms", "p99 ms", "of the pipeline"], rows)
    return rates


def _rate(found: list[Turns], side: str, turn: int) -> float:
    """Acknowledged chunks a second, of all processes."""
    return sum(len(taken) / elapsed for taken, elapsed in (process[side][turn] for process in found))


@pytest.mark.bench
def bench_commits() -> None:
    assert main(turns=2)["sprites commit"] > 500


if __name__ == "__main__":
    main(arguments(__doc__).repetitions or 4)
