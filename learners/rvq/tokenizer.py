"""The learnt tokenizer: a convolutional VQ-VAE with one vector for each step, coded by residual quantisation.

Shapes: B chunks of T steps, A numbers of an action, P positions (one for each step), L layers, H numbers of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from learners.rvq import artefact
from learners.rvq.chunks import Chunks, card
from learners.rvq.fitting import TrainConfig, minimise
from learners.rvq.network import Steps
from learners.rvq.normalizer import Normalizer
from learners.rvq.quantizer import QuantizerConfig
from learners.rvq.residual import ResidualConfig, ResidualVectorQuantizer, depths
from learners.rvq.statistics import Statistics
from learners.seeding import generator, seeded
from replay.errors import BadInput

KIND = "rvq"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    action_dim: int = 7
    chunk_size: int = 10
    num_layers: int = 8
    hidden_dim: int = 64
    num_embeddings: int = 256
    commitment_cost: float = 0.25
    dropout: float = 0.1  # share of training chunks that are coded to a random depth only
    decay: float = 0.99  # of the codebooks' moving averages
    dead_share: float = 0.03  # of the mean use: codes that are used less are restarted
    blocks: int = 1  # of encoder and decoder
    gripper: int | None = -1  # the dimension that is a gripper's, with two positions; none = there is no gripper

    def __post_init__(self) -> None:
        if min(self.action_dim, self.chunk_size, self.hidden_dim) < 1 or self.num_embeddings < 2 or self.blocks < 0:
            raise BadInput(f"{self} codes nothing.", "Give sizes from 1, num_embeddings from 2, blocks from 0.")

    @property
    def residual(self) -> ResidualConfig:
        quantizer = QuantizerConfig(
            num_embeddings=self.num_embeddings, dim=self.hidden_dim, decay=self.decay, dead_share=self.dead_share
        )
        return ResidualConfig(num_layers=self.num_layers, dropout=self.dropout, quantizer=quantizer)


class Step(NamedTuple):
    loss: Tensor
    metrics: Mapping[str, Tensor]
    statistics: Sequence[Statistics]


class RVQTokenizer(nn.Module):
    """Chunks (B, T, A) in environment units <-> codes (B, P, L) int64 below `vocab_size`.

    Any codes decode, and so does any prefix of the layers. Until `fit` (or a stage that trains it), codes mean little.

    >>> tokenizer = RVQTokenizer(num_layers=2, num_embeddings=16)
    >>> codes = tokenizer.encode(torch.zeros(3, 10, 7))
    >>> codes.shape, tokenizer.decode(codes, layers=1).shape, tokenizer.bits_per_chunk(1)
    (torch.Size([3, 10, 2]), torch.Size([3, 10, 7]), 40)
    """

    def __init__(
        self,
        action_dim: int = 7,
        chunk_size: int = 10,
        num_layers: int = 8,
        hidden_dim: int = 64,
        num_embeddings: int = 256,
        commitment_cost: float = 0.25,
        **more: Any,
    ) -> None:
        """`more`: the other settings of TokenizerConfig."""
        super().__init__()
        self.config = config = TokenizerConfig(
            action_dim=action_dim,
            chunk_size=chunk_size,
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_embeddings=num_embeddings,
            commitment_cost=commitment_cost,
            **more,
        )
        self.normalizer = Normalizer(config.action_dim, config.gripper)
        self.encoder = Steps(config.action_dim, config.hidden_dim, config.hidden_dim, config.blocks)
        self.quantizer = ResidualVectorQuantizer(config.residual)
        self.decoder = Steps(config.hidden_dim, config.hidden_dim, config.action_dim, config.blocks)
        self.card: dict[str, Any] = {}  # of the data that it was fitted to
        self.figures: dict[str, float] = {}  # that came with an artefact

    @staticmethod
    def of(config: TokenizerConfig) -> RVQTokenizer:
        return RVQTokenizer(**asdict(config))

    @property
    def vocab_size(self) -> int:
        """Codes of each position and layer."""
        return self.config.num_embeddings

    @property
    def num_layers(self) -> int:
        return self.config.num_layers

    def bits_per_chunk(self, layers: int | None = None) -> int:
        """Of codes of that many layers, each a whole number of bits."""
        return self.config.chunk_size * self.quantizer.depth(layers) * math.ceil(math.log2(self.vocab_size))

    def tokens_per_chunk(self, layers: int | None = None) -> int:
        return self.config.chunk_size * self.quantizer.depth(layers)

    @torch.no_grad()
    def encode(self, actions: Tensor | np.ndarray, layers: int | None = None) -> Tensor:
        """(B, T, A) in environment units -> (B, P, layers) int64. Raises BadInput for another shape."""
        return self.quantizer.encode(self.encoder(self.normalise(actions)), layers)

    @torch.no_grad()
    def decode(self, codes: Tensor, layers: int | None = None) -> Tensor:
        """(B, P, l) int64 -> (B, T, A) in environment units, from the first `layers` of those given.

        Raises BadInput for codes that are none.
        """
        return self.normalizer.inverse(self.reconstruct(codes, layers))

    @torch.no_grad()
    def reconstruct(self, codes: Tensor, layers: int | None = None) -> Tensor:
        """As `decode`, but normalised."""
        self._check(codes)
        return self.decoder(self.quantizer.decode(codes, layers))

    def normalise(self, actions: Tensor | np.ndarray) -> Tensor:
        """Environment units (B, T, A) -> what the tokenizer works on."""
        found = torch.as_tensor(actions, dtype=torch.float32, device=self.normalizer.low.device)
        shape = (self.config.chunk_size, self.config.action_dim)
        if found.ndim != 3 or tuple(found.shape[1:]) != shape:
            raise BadInput(f"Chunks of shape {tuple(found.shape)} are not (B, {shape[0]}, {shape[1]}).", "Cut them so.")
        return self.normalizer(found)

    def step(self, x_BTA: Tensor, generator: torch.Generator) -> Step:
        """The loss of normalised chunks, and what the codebooks have to hear if the step counts (see `quantizer`)."""
        depth = depths(len(x_BTA), self.num_layers, self.config.dropout, generator)
        z_BTH = self.encoder(x_BTA)
        found = self.quantizer(z_BTH, None if depth is None else depth[:, None].expand(z_BTH.shape[:-1]))
        error = (self.decoder(found.vectors.to(x_BTA.dtype)) - x_BTA).square().mean()
        loss = error + self.config.commitment_cost * found.commitment
        metrics = {"reconstruction": error.detach(), "commitment": found.commitment.detach()}
        return Step(loss, metrics, found.statistics)

    @torch.no_grad()
    def initialise(self, actions_NTA: Tensor, chunks: int, generator: torch.Generator) -> None:
        """Fits the normaliser, and starts the codebooks from so many chunks; each only if that was never done."""
        if not self.normalizer.ready:
            self.normalizer.fit(actions_NTA)
        if not self.quantizer.ready:
            order = torch.randperm(len(actions_NTA), generator=generator, device=actions_NTA.device)
            z = self.encoder(self.normalise(actions_NTA[order[:chunks]]))
            self.quantizer.initialise(z.flatten(0, 1), generator)

    def fit(
        self,
        chunks: Chunks | Tensor | np.ndarray,
        updates: int = 1500,
        seed: int = 0,
        train: TrainConfig | None = None,
        stride: int = 5,
    ) -> RVQTokenizer:
        """Trains on chunks (N, T, A) in environment units, in this process. A function of its arguments."""
        train = train or TrainConfig()
        found = chunks if isinstance(chunks, Chunks) else None
        actions = torch.as_tensor(chunks.actions if isinstance(chunks, Chunks) else chunks, dtype=torch.float32)
        actions = actions.to(self.normalizer.low.device)
        self.card = card(found, stride) if found else {"sources": {}, "chunks": len(actions)}
        self.initialise(actions, train.initial_chunks, generator((seed,), actions.device))
        last: list[Sequence[Statistics]] = []

        def loss(x_BTA: Tensor, draws: torch.Generator) -> Tensor:
            step = self.step(x_BTA, draws)
            last[:] = [step.statistics]
            return step.loss

        with seeded(seed):
            minimise(self, loss, self.normalise(actions), train, updates, seed, lambda: self.quantizer.update(last[0]))
        return self

    def save(self, directory: Path | str, figures: Mapping[str, float] | None = None) -> None:
        """Writes an artefact; see `artefact`."""
        saved = artefact.Artefact(
            kind=KIND,
            config=asdict(self.config),
            tensors=artefact.own_tensors(self),
            normalizer=self.normalizer.as_json(),
            card=self.card,
            figures=self.figures if figures is None else dict(figures),
        )
        artefact.write(Path(directory), saved)

    @staticmethod
    def load(directory: Path | str) -> RVQTokenizer:
        """Raises BadInput for an artefact that is damaged, or of something else."""
        directory = Path(directory)
        found = artefact.read(directory, KIND)
        return artefact.revive(directory, found, lambda config: RVQTokenizer(**config))

    def _check(self, codes: Tensor) -> None:
        shape, count = (self.config.chunk_size, self.num_layers), self.vocab_size
        if codes.ndim != 3 or codes.shape[1] != shape[0] or not 1 <= codes.shape[2] <= shape[1]:
            raise BadInput(
                f"Codes of shape {tuple(codes.shape)} are not (B, {shape[0]}, 1 to {shape[1]}).", "Cut them so."
            )
        if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= count):
            raise BadInput(f"Codes reach from {int(codes.min())} to {int(codes.max())}.", f"Give some below {count}.")
