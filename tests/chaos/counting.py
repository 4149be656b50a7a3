"""Experience that proves itself: what CountingEnv counts, as records to write and as checks of what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from actors.envs.counting import ACTION_DIM, CountingEnv
from actors.envs.registry import EnvConfig, spec_of
from replay.schema import FLAGS, Batch, Chunk, EpisodeSpec, Window

ENV = EnvConfig(task="counting/20-150", image_size=16)
SPEC: EpisodeSpec = spec_of(CountingEnv(ENV, 0))
Record = dict[str, np.ndarray]


def stream_of(seed: int) -> str:
    return f"counting-{seed}"


def records(seed: int) -> Iterator[Record]:
    """The endless life of environment `seed`, episode after episode, as replay/schema.py aligns it."""
    env, rng = CountingEnv(ENV, seed), np.random.default_rng(seed)
    while True:
        fields, _ = env.reset()
        yield _record(fields, np.zeros(ACTION_DIM, np.float32), 0.0, first=True, last=False)
        last = False
        while not last:
            action = rng.uniform(-1, 1, ACTION_DIM).astype(np.float32)
            fields, reward, _, last, _ = env.step(action)
            yield _record(fields, action, reward, first=False, last=last)


def _record(fields: Record, action: np.ndarray, reward: float, first: bool, last: bool) -> Record:
    flags = {name: np.array(value) for name, value in zip(FLAGS, (first, last, False), strict=True)}
    return {**fields, "action": action, "reward": np.array(reward, np.float32), **flags}


def batch_violations(batch: Batch) -> list[str]:
    """What is wrong with each window of a batch, in words; empty if all is well."""
    rows = ({name: a[i] for name, a in batch.arrays.items()} for i in range(len(batch.windows)))
    return [said for window, row in zip(batch.windows, rows, strict=True) if (said := _window_violation(window, row))]


def _window_violation(window: Window, arrays: Mapping[str, np.ndarray]) -> str:
    if said := _violation(arrays, window.start):
        return f"{window}: {said}"
    env, episode = arrays["count"][0, :2]
    if (window.key.stream, window.key.episode) != (stream_of(env), episode - 1):
        return f"{window}: holds episode {episode} of environment {env}"
    return ""


def chunk_violation(chunk: Chunk) -> str:
    """What is wrong with a chunk, in words; empty if all is well."""
    if said := _violation(chunk.arrays, chunk.first_step):
        return f"{chunk.id}: {said}"
    env, episode = chunk.arrays["count"][0, :2]
    if (chunk.id.stream, chunk.episode) != (stream_of(env), episode - 1):
        return f"{chunk.id}: holds episode {episode} of environment {env}"
    return ""


def _violation(arrays: Mapping[str, np.ndarray], start: int) -> str:
    count = arrays["count"]
    step = np.arange(start, start + len(count))
    if (count[:, :3] != count[0, :3]).any():
        return "environment, episode or seed change within it"
    if (count[:, 3] != step).any():
        return f"its steps are {count[:, 3].tolist()}, not those from {start}"
    if (arrays["reward"] != step).any() or (arrays["is_first"] != (step == 0)).any():
        return "reward or is_first do not belong to the steps"
    if (arrays["image"] != (step % 256).astype(np.uint8)[:, None, None, None]).any():
        return "an image does not belong to its step"
    if (arrays["action"] != arrays["state"]).any():
        return "an action does not belong to its outcome"
    return ""
