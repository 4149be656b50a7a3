"""Training the tokenizer in a stage: chunks in memory, codebooks that follow what the whole group has counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learners.collective import Peers
from learners.rvq.chunks import Chunks, ChunksConfig, card, load
from learners.rvq.fitting import TrainConfig
from learners.rvq.heldout import Tokenizer, by_layers
from learners.rvq.statistics import Statistics, merge_over
from learners.rvq.tokenizer import RVQTokenizer
from learners.seeding import generator
from learners.system import Metrics, OptimConfig
from replay.errors import BadInput
from replay.source import Source

EXAMPLES = 8  # chunks that are shown beside their reconstructions


class RVQObjective:
    """Loss: mean squared error of normalised chunks, and the commitment of encoder to codes."""

    def __init__(
        self,
        tokenizer: RVQTokenizer,
        chunks: ChunksConfig,
        train: TrainConfig,
        note: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """`note` is told the card of the data."""
        self.tokenizer, self.chunks, self.train, self._note = tokenizer, chunks, train, note
        self._actions = torch.zeros(0)  # (N, T, A) in environment units
        self._statistics: Sequence[Statistics] = ()  # of the last batch

    @property
    def optim(self) -> OptimConfig:
        return self.train.optim

    def trained(self) -> nn.Module:
        return self.tokenizer

    def prepare(self, source: Source) -> None:
        """Reads every training chunk; fits the normaliser and starts the codebooks, unless that was done before."""
        found = load(source, "train", self.tokenizer.config.chunk_size, self.chunks)
        self._actions = torch.from_numpy(found.actions)
        self._note(card(found, self.chunks.of("train")))
        device = self.tokenizer.normalizer.low.device
        self.tokenizer.initialise(self._actions.to(device), self.train.initial_chunks, generator((0,), device))

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Tensor:
        draws = np.random.default_rng(np.random.SeedSequence(key))
        return self._actions[torch.from_numpy(draws.integers(len(self._actions), size=self.train.batch_size))]

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        step = self.tokenizer.step(self.tokenizer.normalise(batch), generator)
        self._statistics = step.statistics
        return step.loss, step.metrics

    def merge(self, peers: Peers) -> None:
        """What a group's learners have counted in their own batches is counted by all of them."""
        self._statistics = merge_over(peers, self._statistics)

    def stepped(self) -> None:
        self.tokenizer.quantizer.update(self._statistics)

    @torch.no_grad()
    def gate(self, source: Source) -> Metrics:
        """Held-out figures by number of layers; {} while nothing is held out."""
        held = held_out(source, self.tokenizer.config.chunk_size, self.chunks)
        return by_layers(self.tokenizer, held.actions).metrics() if held else {}

    @torch.no_grad()
    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        held = held_out(source, self.tokenizer.config.chunk_size, self.chunks)
        if not held:
            return {}
        found = by_layers(self.tokenizer, held.actions)
        return {
            "rvq_layers": found.arrays(),
            "rvq_usage": {"counts": found.counts},
            "rvq_examples": examples(self.tokenizer, held.actions),
        }


def held_out(source: Source, size: int, config: ChunksConfig) -> Chunks | None:
    """The chunks of held-out episodes, if there are any."""
    try:
        return load(source, "valid", size, config)
    except BadInput:
        return None


def examples(tokenizer: Tokenizer, actions_NTA: np.ndarray) -> dict[str, np.ndarray]:
    """Some chunks (E, T, A) in environment units, and what is left of them by number of layers (L, E, T, A)."""
    shown = actions_NTA[np.linspace(0, len(actions_NTA) - 1, min(EXAMPLES, len(actions_NTA))).astype(int)]
    codes = tokenizer.encode(shown)
    found = [tokenizer.decode(codes, number).cpu().numpy() for number in range(1, tokenizer.num_layers + 1)]
    return {"original": shown, "reconstructed": np.stack(found)}
