"""Processes of the arena's tests: `python arena_worker.py fill|check DIRECTORY SEED`. Chunk n counts from 1000 n."""

from __future__ import annotations

import select
import sys
from pathlib import Path

import numpy as np

from replay.arena.arena import Arena
from replay.schema import EpisodeSpec

SPEC = EpisodeSpec.build(
    {"image": ((16, 16, 3), "uint8"), "state": ((2,), "int64"), "big": ((40, 60), "uint8")}, action_dim=2
)
MAX_BYTES = 2**20
CHUNKS = 60  # more than the arena holds


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def steps_of(number: int) -> int:
    return 1 + 7 * number % 19


def chunk(number: int) -> dict[str, np.ndarray]:
    """Every value of every step says which step it belongs to."""
    count = 1000 * number + np.arange(steps_of(number))
    arrays = {}
    for field in SPEC.fields:
        arrays[field.name] = np.empty((len(count), *field.shape), field.dtype)
        arrays[field.name][...] = (count % 251).astype(field.dtype).reshape(-1, *[1] * len(field.shape))
    arrays["state"][:] = count[:, None]
    return arrays


def read(arena: Arena, number: int) -> dict[str, np.ndarray] | None:
    steps = steps_of(number)
    out = {f.name: np.empty((steps, *f.shape), f.dtype) for f in SPEC.fields}
    found = arena.gather([key(number)], np.array([0]), np.array([0]), np.array([steps]), out)
    return out if found[0] else None


def is_torn(number: int, arrays: dict[str, np.ndarray]) -> bool:
    return any((arrays[name] != array).any() for name, array in chunk(number).items())


def fill(arena: Arena, seed: int) -> None:
    """Puts chunks for ever, as fast as it can."""
    rng, chunks = np.random.default_rng(seed), [chunk(number) for number in range(CHUNKS)]
    print("ready", flush=True)
    while True:
        number = int(rng.integers(CHUNKS))
        arena.put(key(number), chunks[number])


def check(arena: Arena, seed: int) -> None:
    """Reads until there is a line to read; prints how many chunks it found, and which were torn."""
    rng, found, torn = np.random.default_rng(seed), 0, []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        number = int(rng.integers(CHUNKS))
        arrays = read(arena, number)
        if arrays is not None:
            found += 1
            torn += [number] * is_torn(number, arrays)
    print(found, torn, flush=True)


if __name__ == "__main__":
    opened = Arena(Path(sys.argv[2]), "test", SPEC, MAX_BYTES)
    {"fill": fill, "check": check}[sys.argv[1]](opened, int(sys.argv[3]))
