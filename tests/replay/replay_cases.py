"""Small episodes to put into a replay."""

from __future__ import annotations

import time

import numpy as np

from replay.schema import Episode, EpisodeKey, EpisodeSpec
from replay.writing.writer import ReplayWriter

SPEC = EpisodeSpec.build({"image": ((4, 4, 3), "uint8"), "state": ((5,), "float32")}, action_dim=2)


def make_steps(length: int, seed: int = 0, spec: EpisodeSpec = SPEC) -> dict[str, np.ndarray]:
    """Records 0..length-1 of one episode; `state[:, 0]` counts them and `state[:, 1]` holds the seed."""
    rng = np.random.default_rng(seed)
    arrays = {f.name: np.zeros((length, *f.shape), f.dtype) for f in spec.fields}
    arrays["image"][:] = rng.integers(0, 256, arrays["image"].shape)
    arrays["state"][:, 0], arrays["state"][:, 1] = np.arange(length), seed
    arrays["action"][1:] = rng.uniform(-1, 1, arrays["action"][1:].shape)
    arrays["reward"][1:] = rng.normal(size=length - 1)
    arrays["is_first"][0] = arrays["is_last"][-1] = True
    return arrays


def write(writer: ReplayWriter, arrays: dict[str, np.ndarray], source: str = "random", version: int = 0) -> None:
    for t in range(len(arrays["reward"])):
        writer.add({k: a[t] for k, a in arrays.items()}, source=source, policy_version=version)


def settle(writer: ReplayWriter, within_s: float = 30) -> None:
    """Waits until all that is sealed is acknowledged; on a busy machine some of it goes by way of the disk."""
    deadline = time.monotonic() + within_s
    while writer.waiting_chunks:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make_episodes(stream: str, lengths: list[int]) -> list[Episode]:
    """What a first writer of `stream` stores when given `make_steps(length, seed=index)` one after the other."""
    return [
        Episode(key=EpisodeKey(stream, 1, i), source="random", policy_version=0, arrays=make_steps(n, seed=i))
        for i, n in enumerate(lengths)
    ]
