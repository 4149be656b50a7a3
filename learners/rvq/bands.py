"""The tokenizer without a network: an orthonormal transform of the whole chunk, and residual codes of its coefficients.

A token codes the coefficients that hold most of what the tokens before have left: a band, as wide as pays. So tokens
stand in the order of what they take off the error, and any number of them, from the first, decodes. The gripper, whose
edges would spread over all coefficients, is a token of its own in front.

Shapes: B or N chunks of T steps, A numbers of an action, C coefficients of the arm's part, L tokens of it, K codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learners.rvq import artefact
from learners.rvq.bandbooks import fit_books
from learners.rvq.beam import search
from learners.rvq.chunks import Chunks, card
from learners.rvq.normalizer import Normalizer
from learners.rvq.patterns import nearest_pattern, table
from learners.rvq.transform import TransformName, basis
from learners.seeding import generator
from replay.errors import BadInput

KIND = "bands"
RUN = 32  # chunks in a row that count as an episode where nobody says


@dataclass(frozen=True, slots=True, kw_only=True)
class BandsConfig:
    transform: TransformName = "klt"
    tokens: int = 32  # of the arm's part
    num_embeddings: int = 256
    widths: tuple[int, ...] = (1, 2, 3, 4, 6)  # coefficients of a band, to choose from; wider ones want more chunks
    beam: int = 16  # beginnings that are followed when chunks are encoded
    gripper_patterns: int = 1024  # of ten steps: all there are
    iterations: int = 15  # of k-means

    def __post_init__(self) -> None:
        if min(self.tokens, self.num_embeddings, self.gripper_patterns, self.beam, *self.widths, len(self.widths)) < 1:
            raise BadInput(f"{self} codes nothing.", "Give sizes and widths from 1.")


class BandTokenizer(nn.Module):
    """Chunks (B, T, A) in environment units <-> codes (B, 1, L + 1) int64 below `vocab_size`, the gripper's first
    (L without a gripper). Any codes decode, and so does any prefix of the tokens: here a layer is a token."""

    mean: Tensor  # (C,)
    basis: Tensor  # (C, C)
    codebooks: Tensor  # (L, K, C), zero beyond each token's band
    patterns: Tensor  # (M, T)
    ready: Tensor

    def __init__(
        self, action_dim: int = 7, chunk_size: int = 10, gripper: int | None = -1, config: BandsConfig | None = None
    ) -> None:
        """`gripper`: which dimension has two positions, counted as in a list; None if there is none."""
        super().__init__()
        self.config = config = config or BandsConfig()
        self.chunk_size, self.action_dim = chunk_size, action_dim
        self.normalizer = Normalizer(action_dim, gripper)
        width = chunk_size * len(self.normalizer.arm)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("basis", torch.eye(width))
        self.register_buffer("codebooks", torch.zeros(config.tokens, config.num_embeddings, width))
        self.register_buffer("patterns", -torch.ones(config.gripper_patterns, chunk_size))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
        self.card: dict[str, Any] = {}
        self.figures: dict[str, float] = {}

    @property
    def vocab_size(self) -> int:
        return max(self.config.num_embeddings, self.config.gripper_patterns)

    @property
    def has_gripper(self) -> bool:
        return self.normalizer.gripper is not None

    @property
    def num_layers(self) -> int:
        """Tokens, the gripper's included."""
        return self.config.tokens + self.has_gripper

    def bits_per_chunk(self, layers: int | None = None) -> int:
        """Of the first `layers` tokens, each a whole number of bits."""
        count, bits = self._depth(layers), math.ceil(math.log2(self.config.num_embeddings))
        if not self.has_gripper:
            return count * bits
        return math.ceil(math.log2(self.config.gripper_patterns)) + (count - 1) * bits

    def tokens_per_chunk(self, layers: int | None = None) -> int:
        return self._depth(layers)

    @torch.no_grad()
    def encode(self, actions: Tensor | np.ndarray, layers: int | None = None) -> Tensor:
        """(B, T, A) in environment units -> (B, 1, layers) int64."""
        count, x_BTA = self._depth(layers), self.normalise(actions)
        codes = [nearest_pattern(x_BTA[..., self.normalizer.gripper], self.patterns)] if self.has_gripper else []
        coefficients = (x_BTA[..., self.normalizer.arm].flatten(1) - self.mean) @ self.basis.T
        found = search(coefficients, self.codebooks[: count - len(codes)], self.config.beam)
        return torch.cat((*(each[:, None] for each in codes), found), 1)[:, None]

    @torch.no_grad()
    def decode(self, codes: Tensor, layers: int | None = None) -> Tensor:
        """(B, 1, l) int64 -> (B, T, A) in environment units, from the first `layers` of those given.

        Raises BadInput for codes that are none. Those beyond a smaller table count from its beginning again.
        """
        return self.normalizer.inverse(self.reconstruct(codes, layers))

    @torch.no_grad()
    def reconstruct(self, codes: Tensor, layers: int | None = None) -> Tensor:
        """As `decode`, but normalised."""
        self._check(codes)
        used = self._depth(codes.shape[2] if layers is None else min(layers, codes.shape[2]))
        tokens = list(codes[:, 0, :used].unbind(-1))
        out = self.mean.new_zeros(len(codes), self.chunk_size, self.action_dim)
        if self.has_gripper:
            out[..., self.normalizer.gripper] = self.patterns[tokens.pop(0) % len(self.patterns)]
        coefficients = self.mean.new_zeros(len(codes), len(self.mean))
        for book, token in zip(self.codebooks, tokens, strict=False):
            coefficients = coefficients + book[token % len(book)]
        arm = (coefficients @ self.basis + self.mean).unflatten(-1, (self.chunk_size, -1))
        out[..., self.normalizer.arm] = arm
        return out

    def normalise(self, actions: Tensor | np.ndarray) -> Tensor:
        """Environment units (B, T, A) -> what the tokenizer works on."""
        found = torch.as_tensor(actions, dtype=torch.float32, device=self.mean.device)
        shape = (self.chunk_size, self.action_dim)
        if found.ndim != 3 or tuple(found.shape[1:]) != shape:
            raise BadInput(f"Chunks of shape {tuple(found.shape)} are not (B, {shape[0]}, {shape[1]}).", "Cut them so.")
        return self.normalizer(found)

    @torch.no_grad()
    def fit(self, chunks: Chunks | Tensor | np.ndarray, seed: int = 0, stride: int = 5) -> BandTokenizer:
        """To chunks (N, T, A) in environment units, episode after episode. A function of its arguments."""
        actions = torch.as_tensor(chunks.actions if isinstance(chunks, Chunks) else chunks, dtype=torch.float32)
        actions = actions.to(self.mean.device)
        self.card = card(chunks, stride) if isinstance(chunks, Chunks) else {"sources": {}, "chunks": len(actions)}
        self.normalizer.fit(actions)
        x_NTA = self.normalise(actions)
        if self.has_gripper:
            gripper = x_NTA[..., self.normalizer.gripper]
            self.patterns.copy_(table(gripper, self.config.gripper_patterns))
        x_NC = x_NTA[..., self.normalizer.arm].flatten(1)
        self.mean.copy_(x_NC.mean(0))
        rows = basis(x_NC.double().cpu().numpy(), self.config.transform, self.chunk_size)
        self.basis.copy_(torch.from_numpy(np.ascontiguousarray(rows)))
        half = torch.as_tensor(chunks.episode if isinstance(chunks, Chunks) else np.arange(len(actions)) // RUN) % 2
        config, draws = self.config, generator((seed,), actions.device)
        books = fit_books(
            (x_NC - self.mean) @ self.basis.T,
            half.to(actions.device),
            config.tokens,
            config.num_embeddings,
            config.widths,
            config.iterations,
            draws,
        )
        for own, book in zip(self.codebooks, books, strict=True):
            own.copy_(book)
        self.ready.fill_(True)
        return self

    def save(self, directory: Path | str, figures: Mapping[str, float] | None = None) -> None:
        """Writes an artefact; see `artefact`."""
        sizes = {"action_dim": self.action_dim, "chunk_size": self.chunk_size, "gripper": self.normalizer.gripper}
        saved = artefact.Artefact(
            kind=KIND,
            config={**sizes, **asdict(self.config)},
            tensors=artefact.own_tensors(self),
            normalizer=self.normalizer.as_json(),
            card=self.card,
            figures=self.figures if figures is None else dict(figures),
        )
        artefact.write(Path(directory), saved)

    @staticmethod
    def load(directory: Path | str) -> BandTokenizer:
        """Raises BadInput for an artefact that is damaged, or of something else."""
        found = artefact.read(Path(directory), KIND)
        return artefact.revive(Path(directory), found, _make)

    def _depth(self, layers: int | None) -> int:
        if layers is None:
            return self.num_layers
        if not 1 <= layers <= self.num_layers:
            raise BadInput(f"There are no {layers} tokens.", f"Ask for 1 to {self.num_layers}.")
        return layers

    def _check(self, codes: Tensor) -> None:
        if codes.ndim != 3 or codes.shape[1] != 1 or not 1 <= codes.shape[2] <= self.num_layers:
            raise BadInput(
                f"Codes of shape {tuple(codes.shape)} are not (B, 1, 1 to {self.num_layers}).", "Cut them so."
            )
        if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= self.vocab_size):
            raise BadInput(
                f"Codes reach from {int(codes.min())} to {int(codes.max())}.", f"Give some below {self.vocab_size}."
            )


def _make(config: dict[str, Any]) -> BandTokenizer:
    sizes = {name: config.pop(name) for name in ("action_dim", "chunk_size", "gripper")}
    return BandTokenizer(**sizes, config=BandsConfig(**config))
