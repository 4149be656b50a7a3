"""The Dreamer 4 agent at work: encode the frame, commit it to the cache, read the agent token, draw an action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learners.agent import Mode, Observation
from learners.draws import Draws
from learners.dreamer4.dynamics import Dynamics
from learners.dreamer4.shortcut import Conditions, commit
from learners.dreamer4.tokenizer import Encoding, Tokenizer
from learners.nn.cache import Cache
from learners.nn.heads import PolicyHead


class Carry(NamedTuple):
    tokenizer: Encoding
    dynamics: Cache
    draws: Draws


class Dreamer4Agent:
    """Acts with one policy head on the shared trunk; see learners.agent.Agent."""

    def __init__(self, tokenizer: Tokenizer, dynamics: Dynamics, policy: PolicyHead, image: str = "image") -> None:
        self.tokenizer, self.dynamics, self.policy, self.image = tokenizer, dynamics, policy, image

    @property
    def device(self) -> torch.device:
        return self.dynamics.scale.device

    def start(self, batch_size: int, seed: int) -> Carry:
        past = self.tokenizer.cache(batch_size, self.device)
        draws = Draws.start(batch_size, seed, self.device)
        return Carry(past, self.dynamics.cache(batch_size, self.device), draws)

    @torch.no_grad()
    def act(self, observation: Observation, carry: Carry, mode: Mode = "sample") -> tuple[np.ndarray, Carry]:
        h = self.read(observation, carry)
        action = self.policy.now(h)
        chosen = action.sample(carry.draws) if mode == "sample" else action.mode()
        return chosen.float().cpu().numpy(), carry

    def join(self, carries: Sequence[Carry]) -> Carry:
        pasts, caches, draws = zip(*carries, strict=True)
        encoder, decoder = (Cache.join(several) for several in zip(*pasts, strict=True))
        return Carry(Encoding(encoder, decoder), Cache.join(caches), Draws.join(draws))

    def split(self, carry: Carry, sizes: Sequence[int]) -> list[Carry]:
        pasts = zip(*(cache.split(sizes) for cache in carry.tokenizer), strict=True)
        parts = zip(pasts, carry.dynamics.split(sizes), carry.draws.split(sizes), strict=True)
        return [Carry(Encoding(*past), cache, draws) for past, cache, draws in parts]

    def read(self, observation: Observation, carry: Carry) -> Tensor:
        """The agent tokens (B, D) of the present frames, which are committed to the cache."""
        first = self._tensor(observation.is_first)
        for cache in (carry.tokenizer.encoder, carry.dynamics):
            cache.restart(first)
        z = self.tokenizer.encode(self._tensor(observation.fields[self.image])[:, None], carry.tokenizer)
        carry.tokenizer.encoder.advance()
        action = self._tensor(observation.previous_action.astype(np.float32))[:, None]
        given = Conditions(action, ~first[:, None])
        task = torch.zeros(len(first), dtype=torch.long, device=self.device)
        h = commit(self.dynamics, carry.dynamics, self.dynamics.standardise(z), given, task, carry.draws).h
        assert h is not None
        return h[:, 0]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
