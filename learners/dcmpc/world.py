"""The world model of DC-MPC: observations as codes, the next codes as a classification, the reward.

Shapes: B rows, O numbers of an observation, A of an action, Z = C x D numbers of a state z: C of each of D latent
dimensions, the first number of every dimension first. K codes of a latent dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn

from learners.dcmpc.classify import expected
from learners.dcmpc.encodings import Encoding, EncodingName, make
from learners.nn.fsq import Quantised
from learners.nn.mlp import mlp
from learners.system import OptimConfig
from replay.errors import BadInput

OPTIM = OptimConfig(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01, warmup_steps=0, decay=0.0, clip_norm=20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    optim: OptimConfig = field(default_factory=lambda: OPTIM, metadata={"flatten": True})
    latent_dim: int = 512  # latent dimensions, each of which holds one code
    levels: tuple[int, ...] = (5, 3)  # of the channels of a code: 15 codes
    encoding: EncodingName = "fsq"  # "fsq" and "vq" are read as their codes, "onehot" as 15 numbers
    dynamics: Literal["ce", "mse"] = "ce"  # the next codes as a classification, or as a regression of their numbers
    encoder: tuple[int, ...] = (256,)  # hidden widths
    hidden: tuple[int, ...] = (512, 512)  # of dynamics and reward
    reward_low: float = 0.0  # rewards of a decision are known to lie in [reward_low, reward_high]; equal: unbounded
    reward_high: float = 0.0

    def __post_init__(self) -> None:
        if self.latent_dim < 1 or min(self.levels, default=0) < 2:
            raise BadInput(
                f"latent_dim {self.latent_dim} and levels {self.levels} make no codes.",
                "Give latent_dim from 1, and world.levels from 2 each.",
            )
        if self.reward_low > self.reward_high:
            raise BadInput("world.reward_low is above world.reward_high.", "Give the lower bound first, or 0 and 0.")
        if self.dynamics == "ce" and self.encoding in ("continuous", "simnorm"):
            raise BadInput(
                f"A {self.encoding} encoding has no codes to classify.",
                "Set world.dynamics=mse, or world.encoding=fsq.",
            )
        if self.encoding == "simnorm" and self.latent_dim * len(self.levels) % 8:
            raise BadInput("SimNorm needs groups of 8 numbers.", "Give world.latent_dim a multiple of 8.")


class World(nn.Module):
    def __init__(self, config: WorldConfig, observations: int, actions: int) -> None:
        super().__init__()
        self.config, self.actions = config, actions
        self.encoding = cast(Encoding, make(config.encoding, config.levels))
        raw = self.encoding.raw * config.latent_dim
        self.width = self.encoding.width * config.latent_dim  # Z
        outputs = self.encoding.count * config.latent_dim if config.dynamics == "ce" else raw
        self.encoder = mlp(observations, config.encoder, raw)
        self.dynamics = mlp(self.width + actions, config.hidden, outputs)
        self.rewards = mlp(self.width + actions, config.hidden, 1)

    def encode(self, o: Tensor) -> Tensor:
        """Observations (..., O) -> states z (..., Z)."""
        return self.quantise(o).code.flatten(-2)

    def quantise(self, o: Tensor) -> Quantised:
        """Observations (..., O) -> codes (..., C, D) and their indices (..., D)."""
        return self.encoding(self.raw(o))

    def raw(self, o: Tensor) -> Tensor:
        """Observations (..., O) -> what the encoding makes codes of, (..., R, D)."""
        return self.encoder(o).unflatten(-1, (self.encoding.raw, self.config.latent_dim))

    def step(self, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """States (..., Z) and actions (..., A) -> (the next states (..., Z) as expected codes, rewards (...))."""
        za = torch.cat((z, a), -1)
        return self.following(self.predict(za)), self.reward_of(za)

    def reward(self, z: Tensor, a: Tensor) -> Tensor:
        """The reward (...) that action a (..., A) in state z (..., Z) brings."""
        return self.reward_of(torch.cat((z, a), -1))

    def reward_of(self, za: Tensor) -> Tensor:
        """The same of states and actions side by side, (..., Z + A)."""
        return self.bounded(self.rewards(za)[..., 0])

    def bounded(self, out: Tensor) -> Tensor:
        """Squashed into what rewards are known to lie in."""
        low, high = self.config.reward_low, self.config.reward_high
        return out if low == high else torch.tanh(out) * ((high - low) / 2) + (high + low) / 2

    def predict(self, za: Tensor) -> Tensor:
        """(..., Z + A) -> logits (..., K, D) of the next codes, or their raw numbers (..., R, D) with dynamics=mse."""
        return self.dynamics(za).unflatten(-1, (-1, self.config.latent_dim))

    def following(self, prediction: Tensor) -> Tensor:
        """What `predict` gives -> the state z (..., Z) that is expected."""
        if self.config.dynamics == "mse":
            return self.encoding(prediction).code.flatten(-2)
        return expected(prediction, self.encoding.book()).flatten(-2)

    @property
    def chance(self) -> float:
        """The cross-entropy of a guess, in nats of a latent dimension."""
        return math.log(max(self.encoding.count, 1))
