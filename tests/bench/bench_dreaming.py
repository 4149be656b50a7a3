"""Interactive dreaming at size=cpu: K = 4 drafts, the commit and the decoding of every frame, one dream at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timing import arguments, table

from actors.envs.registry import episode_spec
from distwm.config import load
from distwm.play.bench import Pace, bench
from learners.dreamer4.system import Dreamer4
from replay.schema import Episode, EpisodeKey, EpisodeSpec

FRAMES, CONTEXT, TARGET_FPS = 300, 8, 20


def measure(frames: int, size: str = "cpu") -> tuple[Dreamer4, Pace]:
    """Random weights cost what trained ones cost."""
    config = load("dreamer4", {"size": size})
    spec = episode_spec(config.env)
    torch.manual_seed(0)
    system: Dreamer4 = config.system.build(spec).eval()
    return system, bench(system.player(batch_size=1), context(spec), frames)


def context(spec: EpisodeSpec) -> Episode:
    rng = np.random.default_rng(0)
    arrays = {f.name: np.zeros((CONTEXT, *f.shape), f.dtype) for f in spec.fields}
    arrays["image"] = rng.integers(0, 256, arrays["image"].shape, np.uint8)
    return Episode(key=EpisodeKey("bench", 0, 0), source="random", policy_version=0, arrays=arrays)


def report(frames: int) -> None:
    system, pace = measure(frames)
    parameters = sum(p.numel() for p in [*system.tokenizer.parameters(), *system.dynamics.parameters()]) / 1e6
    head = ["size", "parameters", "threads", "frames/s", "p50 ms", "p95 ms", f"over {TARGET_FPS} frames/s"]
    row = ["cpu", f"{parameters:.2f}M", torch.get_num_threads(), f"{pace.fps:.0f}", f"{pace.p50_ms:.2f}"]
    table(head, [[*row, f"{pace.p95_ms:.2f}", f"{pace.fps / TARGET_FPS:.1f}x"]])


@pytest.mark.bench
def test_dreaming() -> None:
    torch.set_num_threads(1)
    report(FRAMES)


if __name__ == "__main__":
    report(arguments(__doc__).repetitions or FRAMES)
