"""The cache over time against recomputing the window for every draft: speed at a context of 64 frames, and agreement.

The agreement is with full passes over the whole history, because every layer over time looks back a window further.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from timing import arguments, ratio, table, turns
from torch import Tensor

from distwm.config import load
from learners.dreamer4.dynamics import Dynamics, Noise
from learners.dreamer4.shortcut import Conditions, commit, generate
from learners.nn.cache import Cache

C, K, LATENTS, CHANNELS, ACTIONS = 64, 4, 8, 8, 2
FRAMES = 2  # of a turn


def build() -> Dynamics:
    """The dynamics of size=cpu with a longer memory and eight tokens of latents."""
    config = load("dreamer4", {"size": "cpu"}).system.dynamics.net
    config = replace(config, packing=1, transformer=replace(config.transformer, context=C))
    torch.manual_seed(0)
    return Dynamics(config, LATENTS, CHANNELS, ACTIONS).eval()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditions(batch: int, length: int) -> Conditions:
    action = torch.rand(batch, length, ACTIONS, generator=seeded(0)) * 2 - 1
    return Conditions(action, torch.ones(batch, length, dtype=torch.bool))


def at(given: Conditions, t: int) -> Conditions:
    return Conditions(*(x[:, [t]] for x in given))


@torch.no_grad()
def cached(model: Dynamics, cache: Cache, given: Conditions, frames: int) -> None:
    for t in range(frames):
        z = generate(model, cache, (len(given.action), 1, LATENTS, CHANNELS), at(given, t), K, seeded(t))
        commit(model, cache, z, at(given, t), None, seeded(t))


@torch.no_grad()
def uncached(model: Dynamics, past: Tensor, given: Conditions, frames: int) -> None:
    """Without a cache a frame costs K passes over the window; its commit costs nothing."""
    for t in range(frames):
        draw(model, past[:, 1:], torch.randn(past[:, :1].shape, generator=seeded(t)), given)


def draw(model: Dynamics, past: Tensor, z: Tensor, given: Conditions) -> Tensor:
    """`generate` with full passes over the committed frames `past` and the present."""
    for i in range(K):
        every = torch.cat((past, z), dim=1)
        noise = model.context_noise(every)
        noise.level[:, -1], noise.step[:, -1] = i * model.config.k_max // K, K.bit_length() - 1
        now = Conditions(*(x[:, : every.shape[1]] for x in given))
        z_hat = model(every, Noise(*noise), *now, task=None).z[:, -1:]
        z = torch.lerp(z, z_hat, 1 / (K - i))
    return z


@torch.no_grad()
def difference(wraps: int = 3) -> float:
    """The largest difference of a latent between a cached and an uncached rollout, every 16 frames."""
    model, length, worst = build(), wraps * C + 2, 0.0
    given, cache = conditions(1, length), model.cache(1, torch.device("cpu"))
    past: list[Tensor] = []
    for t in range(length):
        noise = torch.randn(1, 1, LATENTS, CHANNELS, generator=seeded(t))
        z = generate(model, cache, tuple(noise.shape), at(given, t), K, seeded(t))
        if past and (t % 16 == 0 or t == length - 1):
            worst = max(worst, float((z - draw(model, torch.cat(past, dim=1), noise, given)).abs().max()))
        commit(model, cache, z, at(given, t), None, seeded(1000 + t))
        past.append(model.noised(z, model.context_noise(z).level, seeded(1000 + t)))
    return worst


def speed(batch: int, repetitions: int) -> list[object]:
    model, given = build(), conditions(batch, C)
    cache = model.cache(batch, torch.device("cpu"))
    cached(model, cache, given, C)  # fills it
    past = torch.randn(batch, C, LATENTS, CHANNELS, generator=seeded(1))
    sides = {
        "cached": partial(cached, model, cache, given, FRAMES),
        "uncached": partial(uncached, model, past, given, FRAMES),
    }
    seconds = turns(sides, repetitions)
    each = [f"{1e3 * sorted(seconds[name])[repetitions // 2] / FRAMES:.1f}" for name in ("uncached", "cached")]
    return [batch, torch.get_num_threads(), *each, f"{ratio(seconds['uncached'], seconds['cached']):.1f}x"]


def report(repetitions: int) -> None:
    head = ["dreams", "threads", "uncached ms/frame", "cached ms/frame", "cached is faster by"]
    table(head, [speed(batch, repetitions) for batch in (1, 16)])
    print(f"\nLargest difference of a latent over three wraps of the cache (float32): {difference():.1e}")


@pytest.mark.bench
def test_cache() -> None:
    torch.set_num_threads(1)
    report(repetitions=5)
    assert difference() < 1e-5


if __name__ == "__main__":
    report(arguments(__doc__).repetitions or 9)
