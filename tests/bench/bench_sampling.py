"""Sampling from a warm arena, against a numpy ring and the replays of others: one process, turn by turn.

Every side holds the same steps (64x64x3 uint8 image, 6 actions, reward, three flags, episodes of 1000 steps) and gives
16 windows of 64 steps as arrays of their own. Peers that are not installed say how to get them. Wall clock.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from timing import ratio, table, turns

from replay.config import ReplayConfig, SamplingConfig
from replay.schema import EpisodeSpec
from replay.shards.server import EmbeddedRedis
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter

B, T, STEPS, EPISODE = 16, 64, 20_000, 1000
SPEC = EpisodeSpec.build({"image": ((64, 64, 3), "uint8")}, action_dim=6)
RING = "numpy ring"
PIP = "not installed: pip install -c constraints.txt "

Side = Callable[[], object]
Peer = Callable[[dict[str, np.ndarray], ExitStack], dict[str, Side]]


def make_steps() -> dict[str, np.ndarray]:
    """All episodes, one behind the other; images with some structure, so that they compress about as real ones do."""
    rng = np.random.default_rng(0)
    arrays = {f.name: np.zeros((STEPS, *f.shape), f.dtype) for f in SPEC.fields}
    base = rng.integers(0, 256, (64, 64, 3), np.uint8)
    shift = rng.integers(0, 64, STEPS)
    for t in range(STEPS):
        arrays["image"][t] = np.roll(base, shift[t], axis=1)
    arrays["action"][:], arrays["reward"][:] = rng.normal(size=(STEPS, 6)), rng.normal(size=STEPS)
    arrays["is_first"][::EPISODE] = arrays["is_last"][EPISODE - 1 :: EPISODE] = True
    for name in ("action", "reward"):
        arrays[name][::EPISODE] = 0
    return arrays


def starts(rng: np.random.Generator, length: int = T) -> np.ndarray:
    """(B,) steps at which windows of `length` may begin."""
    return rng.integers(STEPS // EPISODE, size=B) * EPISODE + rng.integers(EPISODE - length + 1, size=B)


def ours(arrays: dict[str, np.ndarray], stack: ExitStack) -> dict[str, Side]:
    server = EmbeddedRedis(Path(stack.enter_context(tempfile.TemporaryDirectory())), 2**30, "none")
    stack.callback(server.stop)
    config = ReplayConfig(url=server.start(), valid_share=0.0, arena_bytes=2**29)
    writer = ReplayWriter(config, "bench", "s", SPEC)
    for t in range(STEPS):
        writer.add({name: array[t] for name, array in arrays.items()}, source="random", policy_version=0)
    writer.close()
    made: dict[str, RedisSource] = {}
    for kind in ("uniform", "prioritised"):
        made[kind] = RedisSource(dataclasses.replace(config, sampling=SamplingConfig(kind=kind)), "bench", SPEC)
        stack.callback(made[kind].close)
        for key in made[kind].episodes("train"):
            made[kind].episode(key)
    sides: dict[str, Side] = {"distwm": partial(drawn, made["uniform"], T)}
    sides["distwm, T = 16"] = partial(drawn, made["uniform"], 16)
    sides["distwm, prioritised"] = partial(drawn, made["prioritised"], T)
    return sides


_numbers = iter(range(10**9))


def drawn(source: RedisSource, length: int) -> object:
    return source.batch((0, next(_numbers)), B, length)


def ring(arrays: dict[str, np.ndarray], stack: ExitStack) -> dict[str, Side]:
    """The floor: one take per field into arrays that are there already."""
    rng = np.random.default_rng(0)

    def side(length: int) -> Side:
        out = {name: np.empty((B * length, *a.shape[1:]), a.dtype) for name, a in arrays.items()}

        def draw() -> None:
            rows = (starts(rng, length)[:, None] + np.arange(length)).reshape(-1)
            for name, array in arrays.items():
                np.take(array, rows, axis=0, out=out[name], mode="clip")

        return draw

    return {RING: side(T), RING + ", T = 16": side(16)}


def ray_store(arrays: dict[str, np.ndarray], stack: ExitStack) -> dict[str, Side]:
    """Chunks of 64 steps as objects of Ray: zero-copy reads from shared memory, then a copy into a batch."""
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(num_cpus=1, object_store_memory=2**29, include_dashboard=False, logging_level="error")
    stack.callback(ray.shutdown)
    chunks = [
        [
            ray.put({n: a[e + c : min(e + c + 64, e + EPISODE)] for n, a in arrays.items()})
            for c in range(0, EPISODE, 64)
        ]
        for e in range(0, STEPS, EPISODE)
    ]
    rng = np.random.default_rng(0)
    out = {name: np.empty((B, T, *a.shape[1:]), a.dtype) for name, a in arrays.items()}

    def draw() -> None:
        begins = [divmod(int(s), EPISODE) for s in starts(rng)]
        wanted = [(e, c) for e, t in begins for c in range(t // 64, (t + T - 1) // 64 + 1)]
        got = dict(zip(wanted, ray.get([chunks[e][c] for e, c in wanted]), strict=True))
        for row, (e, t) in enumerate(begins):
            for c in range(t // 64, (t + T - 1) // 64 + 1):
                low, high = max(t, 64 * c), min(t + T, 64 * c + 64)
                for name, array in got[e, c].items():
                    out[name][row, low - t : high - t] = array[low - 64 * c : high - 64 * c]

    return {"Ray object store, get + copy": draw}


def as_tensordict(arrays: dict[str, np.ndarray]) -> Any:
    import torch
    from tensordict import TensorDict

    data = {name: torch.from_numpy(array) for name, array in arrays.items()}
    data["episode"] = torch.arange(STEPS) // EPISODE
    return TensorDict(data, [STEPS])


def torchrl_buffer(storage: Any, arrays: dict[str, np.ndarray]) -> Side:
    from torchrl.data import TensorDictReplayBuffer
    from torchrl.data.replay_buffers.samplers import SliceSampler

    sampler = SliceSampler(slice_len=T, traj_key="episode", cache_values=True)
    buffer = TensorDictReplayBuffer(storage=storage, sampler=sampler, batch_size=B * T)
    data = as_tensordict(arrays)
    for begin in range(0, STEPS, EPISODE):
        buffer.extend(data[begin : begin + EPISODE])
    assert buffer.sample()["image"].shape == (B * T, 64, 64, 3)
    return buffer.sample


def torchrl_memmap(arrays: dict[str, np.ndarray], stack: ExitStack) -> dict[str, Side]:
    from torchrl.data import LazyMemmapStorage

    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where our arena is, too
    directory = stack.enter_context(tempfile.TemporaryDirectory(dir=memory))
    storage = LazyMemmapStorage(STEPS, scratch_dir=directory)
    return {"TorchRL LazyMemmapStorage + SliceSampler": torchrl_buffer(storage, arrays)}


def torchrl_redis(arrays: dict[str, np.ndarray], stack: ExitStack) -> dict[str, Side]:
    from torchrl.data import StoreStorage

    server = EmbeddedRedis(Path(stack.enter_context(tempfile.TemporaryDirectory())), 2**30, "none")
    stack.callback(server.stop)
    server.start()
    storage = StoreStorage(STEPS, unix_socket_path=str(server.socket))
    return {"TorchRL StoreStorage on Redis + SliceSampler": torchrl_buffer(storage, arrays)}


def embodied_replay(checkout: str, arrays: dict[str, np.ndarray], stack: ExitStack) -> dict[str, Side]:
    """dreamerv3's replay, from a checkout of it; its packages would also import its environments and JAX."""
    if not checkout:
        raise ImportError
    for name in ("embodied", "embodied.core"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(checkout, *name.split(".")))]
        sys.modules[name] = package
    from embodied.core.replay import Replay

    replay = Replay(length=T, capacity=STEPS, chunksize=1024)
    for t in range(STEPS):
        replay.add({name: array[t] for name, array in arrays.items()}, worker=t // EPISODE)
    return {"dreamerv3 embodied.Replay": partial(replay.sample, B)}


def peers(checkout: str) -> list[tuple[str, str, Peer]]:
    """What each is called, how to get it, and how to fill it."""
    torchrl = "torchrl==0.14.1 tensordict==0.14.3"
    dreamer = "elements, and give --dreamerv3 CHECKOUT of github.com/danijar/dreamerv3"
    return [
        ("Ray object store, get + copy", "ray", ray_store),
        ("TorchRL LazyMemmapStorage + SliceSampler", torchrl, torchrl_memmap),
        ("TorchRL StoreStorage on Redis + SliceSampler", torchrl, torchrl_redis),
        ("dreamerv3 embodied.Replay", dreamer, partial(embodied_replay, checkout)),
    ]


def report(repetitions: int, checkout: str) -> dict[str, float]:
    """Prints the table; returns how many times faster we are, by side."""
    with ExitStack() as stack:
        arrays, rows = make_steps(), []
        sides = ours(arrays, stack) | ring(arrays, stack)
        for name, package, peer in peers(checkout):
            try:
                sides |= peer(arrays, stack)
            except ImportError:
                rows.append([name, PIP + package, "", ""])
        seconds = turns(sides, repetitions, time.perf_counter)
        best = {name: ratio(times, seconds["distwm"]) for name, times in seconds.items()}
        best[RING + ", T = 16"] = ratio(seconds[RING + ", T = 16"], seconds["distwm, T = 16"])
        for name, times in seconds.items():
            size = B * (16 if name.endswith("16") else T) * sum(a[0].nbytes for a in arrays.values())
            figures = [f"{1e3 * median(times):.2f}", f"{size / median(times) / 1e9:.1f}"]
            rows.append([name, *figures, f"{best[name]:.2f}x" if "distwm" not in name else ""])
        table(["side", "ms/batch", "GB/s", "distwm is faster by"], rows)
        return best


@pytest.mark.bench
def test_sampling() -> None:
    assert report(repetitions=50, checkout="")[RING] > 0.7


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--dreamerv3", default="", help="a checkout of github.com/danijar/dreamerv3")
    given = parser.parse_args()
    report(given.repetitions, given.dreamerv3)
