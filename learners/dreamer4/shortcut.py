"""Shortcut forcing (Dreamer 4, section 3.2): which noise a frame gets, the two losses, and sampling in a few steps.

tau in [0, 1) is a frame's signal level, d its step size; both lie on the grid of 1 / k_max and are kept as integers:
tau = level / k_max, d = 2**-step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learners.draws import Source
from learners.dreamer4.dynamics import Dynamics, Noise, Prediction
from learners.maths import ramp
from learners.nn.cache import Cache


class Draw(NamedTuple):
    """The noise of a batch. `flow` (B, T) is true where the loss is the flow loss (d = d_min), else it is bootstrap."""

    noise: Noise
    flow: Tensor


def draw(shape: tuple[int, int], finest: int, bootstrap: float, generator: torch.Generator) -> Draw:
    """Per-frame (tau, d): a `bootstrap` share of the rows draws d uniformly from the coarse steps 1 .. 2 d_min, the
    other rows have d = d_min; tau is uniform over the multiples of d below 1.

    Read literally, the paper draws d over all log2(k_max) + 1 sizes, which leaves 1 in 7 frames a real target. Public
    implementations all raise that share; we split by rows, and `bootstrap` = finest / (finest + 1) is the literal one.
    """
    device = generator.device
    coarse = torch.randint(0, max(finest, 1), shape, generator=generator, device=device)
    rows = torch.rand(shape[0], 1, generator=generator, device=device) < bootstrap
    step = torch.where(rows & (coarse < finest), coarse, finest)
    count = 2**step
    index = (torch.rand(shape, generator=generator, device=device) * count).long()
    level = index * 2 ** (finest - step)
    return Draw(Noise(level, step), step == finest)


def in_context(drawn: Draw, dynamics: Dynamics, share: float, keep: float, generator: torch.Generator) -> Draw:
    """In a `share` of the rows give a frame the context level with probability `keep`: what it meets when it samples.

    With independent levels alone a frame almost never sees a whole past at the context level. 0 is the paper's scheme.
    """
    device = generator.device
    shape = drawn.flow.shape
    rows = torch.rand(shape[0], 1, generator=generator, device=device) < share
    past = rows & (torch.rand(shape, generator=generator, device=device) < keep)
    level = torch.where(past, dynamics.context_level, drawn.noise.level)
    step = torch.where(past, dynamics.finest, drawn.noise.step)
    return Draw(Noise(level, step), drawn.flow | past)


class Conditions(NamedTuple):
    """What conditions every frame: (B, T, A), (B, T)."""

    action: Tensor
    labelled: Tensor


@torch.no_grad()
def bootstrap_target(dynamics: Dynamics, z_noised: Tensor, drawn: Draw, given: Conditions) -> Tensor:
    """x-space target of one step of size d from two steps of d / 2 (section 3.2): z~ + (1 - tau) (b' + b'') / 2.

    (1 - tau)^2 || (z_hat - z~) / (1 - tau) - (b' + b'') / 2 ||^2 = || z_hat - target ||^2, which needs no division in
    the loss. Frames with the flow loss stay as they are.
    """
    k_max = dynamics.config.k_max
    half = torch.where(drawn.flow, drawn.noise.step, drawn.noise.step + 1)
    size = torch.where(drawn.flow, 0, k_max // 2**half)  # levels that half a step climbs
    tau = _wide(drawn.noise.level / k_max)
    first = dynamics(z_noised, Noise(drawn.noise.level, half), *given, task=None).z
    slope = (first - z_noised) / (1 - tau)
    middle = z_noised + slope * _wide(size / k_max)
    level = drawn.noise.level + size
    second = dynamics(middle, Noise(level, half), *given, task=None).z
    slope_2 = (second - middle) / (1 - _wide(level / k_max))
    return z_noised + (1 - tau) * (slope + slope_2) / 2


def shortcut_loss(
    dynamics: Dynamics, z: Tensor, drawn: Draw, given: Conditions, floor: float, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Ramp-weighted x-space loss of standardised latents z (B, T, L, Z): flow and bootstrap frames together."""
    z_noised = dynamics.noised(z, drawn.noise.level, generator)
    target = z
    boot_rows = (~drawn.flow).any(1)
    if boot_rows.any():
        some = Draw(Noise(drawn.noise.level[boot_rows], drawn.noise.step[boot_rows]), drawn.flow[boot_rows])
        part = bootstrap_target(dynamics, z_noised[boot_rows], some, Conditions(*(x[boot_rows] for x in given)))
        target = z.clone()
        target[boot_rows] = torch.where(_wide(some.flow), z[boot_rows], part)
    z_hat = dynamics(z_noised, drawn.noise, *given, task=None).z
    error = (z_hat - target).square().mean((-1, -2))
    # The ramp weighs both terms: w(tau) multiplies "everything" in the paper, as edwhu and Hansen read it too.
    loss = (ramp(drawn.noise.level / dynamics.config.k_max, floor) * error).mean()
    noisy = drawn.flow & (drawn.noise.level == 0)
    return loss, {
        "flow": error[drawn.flow].mean(),
        "from_noise": error[noisy].mean() if noisy.any() else error.new_tensor(float("nan")),
        "bootstrap": error[~drawn.flow].mean() if boot_rows.any() else error.new_tensor(float("nan")),
    }


@torch.no_grad()
def generate(
    dynamics: Dynamics,
    cache: Cache,
    shape: tuple[int, ...],
    given: Conditions,
    steps: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw the present frame (B, 1, L, Z), standardised, from noise in `steps` shortcut steps of size 1 / steps."""
    device = given.action.device
    z = torch.randn(shape, generator=generator, device=device)
    size = torch.full(shape[:2], steps.bit_length() - 1, dtype=torch.long, device=device)
    for i in range(steps):
        level = torch.full_like(size, i * dynamics.config.k_max // steps)
        z_hat = dynamics(z, Noise(level, size), *given, task=None, cache=cache).z
        z = torch.lerp(z, z_hat, 1 / (steps - i))  # z + (z_hat - z) / (1 - tau) * d, and 1 - tau = (steps - i) / steps
    return z


@torch.no_grad()
def commit(
    dynamics: Dynamics,
    cache: Cache,
    z: Tensor,
    given: Conditions,
    task: Tensor | None,
    generator: Source,
) -> Prediction:
    """Enter the finished frame z (B, 1, L, Z), standardised, into the past at the context level, and move on.

    The agent token of *this* pass is h_t: it sees the frame as every later frame will see it, in dreams and in the real
    environment alike (not the half-denoised frame of the last sampling step).
    """
    noise = dynamics.context_noise(z)
    out = dynamics(dynamics.noised(z, noise.level, generator), noise, *given, task=task, cache=cache)
    cache.advance()
    return out


def _wide(x: Tensor) -> Tensor:
    return x[..., None, None]


__all__ = [
    "Conditions",
    "Draw",
    "bootstrap_target",
    "commit",
    "draw",
    "generate",
    "in_context",
    "shortcut_loss",
]
