"""Experience that proves itself: what CountingEnv counts, as records to write and as checks of what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from actors.envs.counting import ACTION_DIM, CountingEnv
from actors.envs.registry import EnvConfig, spec_of
from replay.schema import FLAGS, Batch, Chunk, EpisodeKey, EpisodeSpec

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


class Check:
    """Says what is wrong with experience, in words; empty if all is well. Remembers of each life which episode of the
    environment its first one was: a life that begins after a loss does not begin with the first."""

    def __init__(self) -> None:
        self._begins: dict[tuple[str, int], int] = {}

    def batch(self, batch: Batch) -> list[str]:
        rows = ({name: a[i] for name, a in batch.arrays.items()} for i in range(len(batch.windows)))
        pairs = zip(batch.windows, rows, strict=True)
        return [f"{w}: {said}" for w, row in pairs if (said := self._said(w.key, w.start, row))]

    def chunk(self, chunk: Chunk) -> str:
        said = self._said(chunk.episode_key, chunk.first_step, chunk.arrays)
        return f"{chunk.id}: {said}" if said else ""

    def _said(self, key: EpisodeKey, start: int, arrays: Mapping[str, np.ndarray]) -> str:
        env, episode = (int(n) for n in arrays["count"][0, :2])
        first = self._begins.setdefault((key.stream, key.incarnation), episode - key.episode)
        if key.stream != stream_of(env) or episode != first + key.episode:
            return f"holds episode {episode} of environment {env}"
        return _violation(arrays, start)


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
