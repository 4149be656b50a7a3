"""How fast a world is dreamt when one person plays it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distwm.play.world import Player
from replay.schema import Episode


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Of a dream, from an action to its decoded frame."""

    frames: int
    fps: float
    p50_ms: float
    p95_ms: float

    @staticmethod
    def of(seconds: Sequence[float]) -> Pace:
        times = np.asarray(seconds)
        p50, p95 = np.quantile(times, (0.5, 0.95))
        return Pace(frames=len(times), fps=float(1 / times.mean()), p50_ms=float(1e3 * p50), p95_ms=float(1e3 * p95))

    def __str__(self) -> str:
        return (
            f"{self.fps:.1f} frames/s, median {self.p50_ms:.1f} ms, p95 {self.p95_ms:.1f} ms over {self.frames} frames"
        )


def bench(player: Player, context: Episode, frames: int = 200, warmup: int = 10, seed: int = 0) -> Pace:
    """Dreams `frames` frames under random actions, without a pause between them."""
    dim = context.arrays["action"].shape[1]
    actions = np.random.default_rng(seed).uniform(-1, 1, (warmup + frames, dim)).astype(np.float32)
    player.reset(context)
    seconds = []
    for number, action in enumerate(actions):
        begun = time.perf_counter()
        player.step(action)
        if number >= warmup:
            seconds.append(time.perf_counter() - begun)
    return Pace.of(seconds)
