"""A system whose actions depend on weights, on the episode so far and on noise; the same to the bit in any batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from learners.agent import Mode, Observation
from learners.draws import Draws
from learners.weights import Weights
from replay.schema import EpisodeSpec

PAUSES_S = {"remembering": 0.0, "slow": 0.005, "stuck": 60.0}  # of each decision, by agent


@dataclass
class Memory:
    total: np.ndarray  # (B, A)
    draws: Draws


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberingConfig:
    def build(self, spec: EpisodeSpec) -> Remembering:
        return Remembering(spec)


class Remembering(nn.Module):
    """`gain` is its only weight."""

    def __init__(self, spec: EpisodeSpec) -> None:
        super().__init__()
        self.actions = spec["action"].shape[0]
        self.gain = nn.Parameter(torch.zeros(()))

    def agent(self, name: str, explored: int = 0) -> RememberingAgent:
        if name not in PAUSES_S:
            raise KeyError("there is remembering")
        return RememberingAgent(self.gain, self.actions, PAUSES_S[name])


class RememberingAgent:
    def __init__(self, gain: Tensor, actions: int, pause_s: float) -> None:
        self.gain, self.actions, self.pause_s = gain, actions, pause_s

    def start(self, batch_size: int, seed: int) -> Memory:
        return Memory(np.zeros((batch_size, self.actions)), Draws.start(batch_size, seed))

    def act(self, observation: Observation, carry: Memory, mode: Mode = "sample") -> tuple[np.ndarray, Memory]:
        if observation.fields["count"][0, 3] < 0:
            raise RuntimeError("a count below zero, as it was asked to")
        time.sleep(self.pause_s)
        noise = carry.draws.normal(self.actions).numpy() if mode == "sample" else 0.0
        past = np.where(observation.is_first[:, None], 0.0, 0.5 * carry.total)
        carry.total = past + 0.01 * observation.fields["count"][:, 3:] + observation.previous_action
        return np.clip(self.gain.item() * carry.total + 0.1 * noise, -1, 1).astype(np.float32), carry

    def join(self, carries: Sequence[Memory]) -> Memory:
        return Memory(np.concatenate([c.total for c in carries]), Draws.join([c.draws for c in carries]))

    def split(self, carry: Memory, sizes: Sequence[int]) -> list[Memory]:
        totals = np.split(carry.total, np.cumsum(sizes)[:-1])
        return [Memory(*both) for both in zip(totals, carry.draws.split(sizes), strict=True)]


def weights(version: int) -> Weights:
    """Every version acts otherwise."""
    return Weights(version=version, arrays={"gain": np.array(0.1 * version, np.float32)})
