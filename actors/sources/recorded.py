"""Replays the actions of recorded episodes as chunks, whatever is observed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from actors.envs.registry import EnvConfig
from actors.sources.recordings import Recording, read_recordings
from actors.sources.source import ActionChunk, Request, SourceConfig, SourceSpec
from replay.errors import BadInput


class Recorded:
    """Episode e of those who ask is recorded episode e modulo their number. A chunk upon observation t is the one that
    was predicted then, if a recorded one began there; else what was done from t on. Past the end of an episode its last
    action is held."""

    def __init__(self, config: SourceConfig) -> None:
        """Reads all actions. Raises BadInput if there are none, or recorded chunks are shorter than the horizon."""
        path = Path(config.path).expanduser()
        if not config.path:
            raise BadInput("A recorded source has no recording.", "Set source.path to a file or a folder.")
        self._recordings = read_recordings(path, config.format)
        shortest = min((len(c) for one in self._recordings for c in one.chunks.values()), default=config.horizon)
        if shortest < config.horizon:
            raise BadInput(
                f"The chunks in {path} have {shortest} actions, not {config.horizon}.",
                f"Set source.horizon={shortest} and source.execute_steps to at most that.",
            )
        what = "predicted chunks" if any(one.chunks for one in self._recordings) else "actions"
        self.spec = SourceSpec(
            action_dim=self._recordings[0].actions.shape[1],
            horizon=config.horizon,
            fps=config.fps,
            fields=(),
            gripper=config.gripper,
            provenance=f"replayed {what} of {len(self._recordings)} episodes in {path.name}, whatever is observed",
        )

    def act(self, requests: Sequence[Request]) -> ActionChunk:
        begun_s = time.perf_counter()
        actions = np.stack([self._chunk(one) for one in requests])
        took_s = np.full(len(requests), (time.perf_counter() - begun_s) / len(requests))
        return ActionChunk(actions=actions, latency_s=took_s, source_s=took_s)

    def close(self) -> None:
        """Holds nothing but memory."""

    def _chunk(self, request: Request) -> np.ndarray:
        """(H, A) float32."""
        recording = self._recordings[request.number % len(self._recordings)]
        planned = recording.chunks.get(request.step)
        return window(recording, request.step, self.spec.horizon) if planned is None else planned[: self.spec.horizon]


def window(recording: Recording, begin: int, horizon: int) -> np.ndarray:
    """(horizon, A): what was done from decision `begin` on, the last action held past the end."""
    rows = np.minimum(np.arange(begin, begin + horizon), len(recording.actions) - 1)
    return recording.actions[rows]


def make(config: SourceConfig, env: EnvConfig) -> Recorded:
    return Recorded(config)
