"""Batches whose chunks are all in Redis: fetched over a unix socket, lz4, decoded and gathered, against a plain client.

The plain client does one thing: a pipeline of GETs of as many chunks, stored uncompressed. It neither checks nor cuts
windows, so it is what a socket can give. One process and one server of each side, turn by turn, wall clock.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import redis
from timing import arguments, ratio, table, turns

from replay.codec import encode
from replay.config import Codec, ReplayConfig
from replay.errors import Missing
from replay.schema import Chunk, ChunkId, EpisodeSpec
from replay.shards.server import EmbeddedRedis
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter

B, T, STEPS, EPISODE, CHUNK = 16, 64, 6400, 800, 64
SPEC = EpisodeSpec.build({"image": ((64, 64, 3), "uint8")}, action_dim=6)
ARENA_BYTES = 2**21  # holds two chunks: each is put there, and hardly any is found again


def sprites(rng: np.random.Generator) -> np.ndarray:
    """(STEPS, 64, 64, 3): three squares that wander over a plain background."""
    frames = np.full((STEPS, 64, 64, 3), (40, 60, 90), np.uint8)
    places = 26 + 26 * np.sin(np.cumsum(rng.normal(0, 0.05, (STEPS, 3, 2)), axis=0))
    for t, squares in enumerate(places.astype(int)):
        for number, (x, y) in enumerate(squares):
            frames[t, y : y + 10, x : x + 10] = 80 * number + 60
    return frames


def control_suite(rng: np.random.Generator) -> np.ndarray:
    """(STEPS, 64, 64, 3) of dmc/cheetah_run under random actions; fewer pictures, used again, to save time."""
    from actors.envs.dmc import make
    from actors.envs.registry import EnvConfig

    env, frames = make(EnvConfig(task="dmc/cheetah_run", image_size=64, render_size=128), 0), []
    env.reset(seed=0)
    for t in range(EPISODE):
        if t % 200 == 0:
            env.reset()
        frames.append(env.step(rng.uniform(-1, 1, 6))[0]["image"])
    return np.tile(np.stack(frames), (STEPS // EPISODE, 1, 1, 1))


def noise(rng: np.random.Generator) -> np.ndarray:
    """(STEPS, 64, 64, 3) that nothing compresses."""
    return rng.integers(0, 256, (STEPS, 64, 64, 3), np.uint8)


def make_steps(images: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    arrays = {f.name: np.zeros((STEPS, *f.shape), f.dtype) for f in SPEC.fields}
    arrays["image"] = images
    arrays["action"][:], arrays["reward"][:] = rng.normal(size=(STEPS, 6)), rng.normal(size=STEPS)
    for name in ("action", "reward"):
        arrays[name][::EPISODE] = 0
    arrays["is_first"][::EPISODE] = arrays["is_last"][EPISODE - 1 :: EPISODE] = True
    return arrays


def stored(arrays: dict[str, np.ndarray], codec: Codec, stack: ExitStack) -> tuple[RedisSource, EmbeddedRedis]:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = EmbeddedRedis(directory, 2**30, "none")
    stack.callback(server.stop)
    config = ReplayConfig(
        url=server.start(), durability="none", valid_share=0.0, arena_bytes=ARENA_BYTES, chunk_steps=CHUNK, codec=codec
    )
    writer = ReplayWriter(config, "bench", "s", SPEC)
    for t in range(STEPS):
        writer.add({name: array[t] for name, array in arrays.items()}, source="random", policy_version=0)
    writer.close()
    source = RedisSource(config, "bench", SPEC)
    stack.callback(source.close)
    return source, server


class Plain:
    """Bodies as they come, through redis-py with hiredis."""

    def __init__(self, arrays: dict[str, np.ndarray], stack: ExitStack) -> None:
        server = EmbeddedRedis(Path(stack.enter_context(tempfile.TemporaryDirectory())), 2**30, "none")
        stack.callback(server.stop)
        server.start()
        self.client = redis.Redis(unix_socket_path=str(server.socket))
        for number in range(STEPS // CHUNK):
            rows = slice(number * CHUNK, (number + 1) * CHUNK)
            self.client.set(f"c{number}", b"".join(a[rows].tobytes() for a in arrays.values()))
        self.rng = np.random.default_rng(0)

    def get(self, count: int) -> list[bytes]:
        pipe = self.client.pipeline(transaction=False)
        for number in self.rng.choice(STEPS // CHUNK, count, replace=False):
            pipe.get(f"c{number}")
        return pipe.execute()


def chunks_per_batch(source: RedisSource) -> float:
    """Distinct ones, over many draws."""
    return float(np.mean([len(set(source._index.draw((1, n), B, T).refs.tolist())) for n in range(200)]))


def compression(arrays: dict[str, np.ndarray]) -> float:
    part = {name: array[:CHUNK] for name, array in arrays.items()}
    id, size = ChunkId("s", 1, 0), sum(a.nbytes for a in part.values())
    chunk = Chunk(id=id, episode=0, first_step=0, policy_version=0, source="", spec_hash=SPEC.hash, arrays=part)
    return size / len(encode(chunk, "lz4"))


def measure(name: str, images: Callable[[np.random.Generator], np.ndarray], repetitions: int) -> list[Any]:
    rng = np.random.default_rng(0)
    try:
        arrays = make_steps(images(rng), rng)
    except Missing as error:
        return [name, f"not measured: {error.mend}", "", "", "", ""]
    numbers = iter(range(10**9))
    with ExitStack() as stack:
        source, _ = stored(arrays, "lz4", stack)
        plain = Plain(arrays, stack)
        count = round(chunks_per_batch(source))
        sides = {"ours": lambda: source.batch((0, next(numbers)), B, T), "plain": partial(plain.get, count)}
        seconds = turns(sides, repetitions, time.perf_counter)
    rates = [f"{1 / median(seconds[side]):.0f}" for side in ("ours", "plain")]
    return [name, f"{compression(arrays):.1f}", count, *rates, f"{ratio(seconds['plain'], seconds['ours']):.2f}x"]


def report(repetitions: int) -> list[list[Any]]:
    kinds = {"plain background, three sprites": sprites, "dmc/cheetah_run": control_suite, "noise": noise}
    rows = [measure(name, images, repetitions) for name, images in kinds.items()]
    table(["frames", "lz4", "chunks/batch", "ours, batches/s", "raw GETs, batches/s", "ours / raw"], rows)
    return rows


@pytest.mark.bench
def test_cold_reads() -> None:
    assert float(report(repetitions=20)[0][-1][:-1]) > 1


if __name__ == "__main__":
    report(arguments(__doc__).repetitions or 60)
