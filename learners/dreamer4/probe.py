"""Does a frame's latent say where things are? A ridge regression from latents to the simulator's positions."""

from __future__ import annotations

import numpy as np
import torch

from learners.dreamer4.tokenizer import Tokenizer
from learners.system import Metrics
from replay.source import Source, Split


def position_probe(
    tokenizer: Tokenizer, source: Source, image: str, field: str = "qpos", frames: int = 2048
) -> Metrics:
    """R2 on held-out frames of a linear probe of one frame's latents, the mean and the worst position. {} without `field`.

    Positions that hardly move (variance below 1e-6) are left out.
    """
    if all(f.name != field for f in source.spec.observations):
        return {}
    (x, y), (x_new, y_new) = (_pairs(tokenizer, source, image, field, frames, s) for s in ("train", "valid"))
    moving = y.var(0) > 1e-6
    score = r2(ridge(x, y[:, moving], x_new), y_new[:, moving])
    return {"probe_r2": float(score.mean()), "probe_r2_worst": float(score.min())}


def ridge(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, penalty: float = 1e-3) -> np.ndarray:
    """Predict y (M, K) at x_new (M, D) from x (N, D), y (N, K), with an intercept; features are standardised."""
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x, x_new = (x - mean) / scale, (x_new - mean) / scale
    gram = x.T @ x + penalty * len(x) * np.eye(x.shape[1])
    return (x_new @ np.linalg.solve(gram, x.T @ (y - y.mean(0)))) + y.mean(0)


def r2(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Share of variance explained, per column."""
    return 1 - ((predicted - truth) ** 2).mean(0) / truth.var(0).clip(min=1e-12)


@torch.no_grad()
def _pairs(
    tokenizer: Tokenizer, source: Source, image: str, field: str, frames: int, split: Split
) -> tuple[np.ndarray, np.ndarray]:
    drawn = source.batch((0, 1, frames), frames, 1, [image, field], split).arrays
    video = torch.from_numpy(np.ascontiguousarray(drawn[image])).to(tokenizer.scale.device)
    z = torch.cat([tokenizer.encode(part) for part in video.split(256)])
    return z.flatten(1).double().cpu().numpy(), drawn[field][:, 0].astype(np.float64)
