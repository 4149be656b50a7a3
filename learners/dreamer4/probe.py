"""Does a frame's latent say where things are? A small regression from latents to the simulator's positions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from learners.dreamer4.tokenizer import Tokenizer
from learners.system import Metrics
from replay.source import Source, Split


def position_probe(
    tokenizer: Tokenizer, source: Source, image: str, field: str = "qpos", frames: int = 16_384, steps: int = 2000
) -> Metrics:
    """R2 on held-out frames of a probe of single frames' latents: the mean over positions and the worst one.

    `probe_r2` reads with a two-layer network, `probe_linear_r2` with a ridge regression, which also asks that positions
    lie straight in latent space. Positions that hardly move (variance below 1e-6) are left out; {} without `field`.
    """
    if all(f.name != field for f in source.spec.observations):
        return {}
    (x, y), (x_new, y_new) = (_pairs(tokenizer, source, image, field, frames, s) for s in ("train", "valid"))
    moving = y.var(0) > 1e-6
    y, y_new = y[:, moving], y_new[:, moving]
    curved, straight = r2(network(x, y, x_new, steps), y_new), r2(ridge(x, y, x_new), y_new)
    return {
        "probe_r2": float(curved.mean()),
        "probe_r2_worst": float(curved.min()),
        "probe_linear_r2": float(straight.mean()),
    }


def ridge(x: Tensor, y: Tensor, x_new: Tensor, penalty: float = 1e-3) -> Tensor:
    """Predict y (M, K) at x_new (M, D) from x (N, D), y (N, K), with an intercept; features are standardised."""
    x, x_new = _standard(x, x_new)
    gram = x.T @ x + penalty * len(x) * torch.eye(x.shape[1])
    return x_new @ torch.linalg.solve(gram, x.T @ (y - y.mean(0))) + y.mean(0)


@torch.enable_grad()
def network(x: Tensor, y: Tensor, x_new: Tensor, steps: int, width: int = 128, batch: int = 256) -> Tensor:
    """The same with a two-layer network, fitted by Adam with a cosine schedule; every draw is fixed."""
    x, x_new = _standard(x, x_new)
    mean, scale = y.mean(0), y.std(0)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(x.shape[1], width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, y.shape[1])
        )
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (batch,), generator=generator)
        loss = (model(x[rows]) - (y[rows] - mean) / scale).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return model(x_new) * scale + mean


def r2(predicted: Tensor, truth: Tensor) -> Tensor:
    """Share of variance explained, per column."""
    return 1 - (predicted - truth).square().mean(0) / truth.var(0, correction=0).clamp(min=1e-12)


def _standard(x: Tensor, x_new: Tensor) -> tuple[Tensor, Tensor]:
    mean, scale = x.mean(0), x.std(0) + 1e-6
    return (x - mean) / scale, (x_new - mean) / scale


@torch.no_grad()
def _pairs(
    tokenizer: Tokenizer, source: Source, image: str, field: str, frames: int, split: Split
) -> tuple[Tensor, Tensor]:
    count = frames if split == "train" else frames // 4
    drawn = source.batch((0, 1, count), count, 1, [image, field], split).arrays
    video = torch.from_numpy(np.ascontiguousarray(drawn[image])).to(tokenizer.scale.device)
    z = torch.cat([tokenizer.encode(part) for part in video.split(256)])
    return z.flatten(1).float().cpu(), torch.from_numpy(drawn[field][:, 0].astype(np.float32))
