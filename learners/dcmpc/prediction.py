"""Is the world model any good? Open-loop prediction of unseen codes against their own frequencies, and which are used.

Shapes: H transitions, N held-out rows, D latent dimensions, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learners.dcmpc.batches import draw
from learners.dcmpc.losses import unroll
from learners.dcmpc.world import World
from learners.nn.fsq import Quantised
from learners.system import Metrics
from replay.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionConfig:
    rows: int = 256  # held-out stretches
    horizon: int = 5  # transitions predicted from the first observation alone


class Prediction(NamedTuple):
    """By horizon, index 0 being one transition ahead."""

    error: np.ndarray  # (H,): cross-entropy in nats of a latent dimension, or squared error with dynamics=mse
    marginal: np.ndarray  # (H,): the same of a guess by frequency (the mean with dynamics=mse), which knows no state
    reward_error: np.ndarray  # (H,): root mean square
    reward_spread: float  # deviation of the rewards, which a guess of the mean is wrong by
    usage: np.ndarray | None  # (D, K): share of each code

    def metrics(self) -> Metrics:
        """`gain_h` > 1 where the model predicts better than frequencies. `active`: share of the codes in use."""
        out: Metrics = {}
        for h, (error, marginal, wrong) in enumerate(zip(self.error, self.marginal, self.reward_error, strict=True), 1):
            out |= {f"error_h{h}": float(error), f"marginal_h{h}": float(marginal), f"reward_rmse_h{h}": float(wrong)}
            out[f"gain_h{h}"] = float(marginal / max(error, 1e-9))
        out["reward_spread"] = self.reward_spread
        if self.usage is not None:
            active = (self.usage > 0).mean(1)
            out |= {"active": float(active.mean()), "active_least": float(active.min())}
        return out

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        curves = {"error": self.error, "marginal": self.marginal, "reward_error": self.reward_error}
        steps = {"horizon": np.arange(1, len(self.error) + 1), "reward_spread": np.asarray(self.reward_spread)}
        used = {} if self.usage is None else {"code_usage": {"usage": self.usage}}
        return {"prediction": steps | curves} | used


def predict(config: PredictionConfig, world: World, source: Source, observation: str) -> Prediction | None:
    """Without gradients. None while no held-out episode is long enough."""
    try:
        drawn = draw(source, (0, 4, config.horizon), config.rows, config.horizon, observation, "valid")
    except LookupError:
        return None
    device = next(world.parameters()).device
    o, a, r = (x.to(device) for x in (drawn.observation, drawn.action, drawn.seen.reward))
    goal = world.quantise(o[1:])
    found = unroll(world, world.encode(o[0]), a, goal, noise_GBKD=None)
    wrong = (found.reward - r).square().mean(1).sqrt()
    return Prediction(
        error=_array(found.error.mean(1)),
        marginal=_array(_marginal(world, goal)),
        reward_error=_array(wrong),
        reward_spread=float(r.std()),
        usage=None if goal.indices is None else _array(_shares(goal.indices.flatten(0, 1), world.encoding.count)),
    )


def _marginal(world: World, goal: Quantised) -> Tensor:
    if world.config.dynamics == "mse":
        return goal.code.var(1, correction=0).mean((1, 2))
    assert goal.indices is not None
    shares = torch.stack([_shares(indices, world.encoding.count) for indices in goal.indices])
    return -torch.xlogy(shares, shares).sum(-1).mean(-1)


def _shares(indices_ND: Tensor, count: int) -> Tensor:
    """How often each latent dimension has each code, (D, K)."""
    return torch.nn.functional.one_hot(indices_ND, count).float().mean(0)


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
