"""RVQ action tokenizers as one system: the learnt one, the one of bands, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from learners.agent import Agent
from learners.rvq.analyse import AnalyseConfig, AnalyseObjective
from learners.rvq.bands import BandsConfig, BandTokenizer
from learners.rvq.chunks import ChunksConfig, has_plans
from learners.rvq.fitting import TrainConfig
from learners.rvq.notes import Notes
from learners.rvq.tokenizer import RVQTokenizer, TokenizerConfig
from learners.rvq.train import RVQObjective
from learners.system import Metrics, Objective
from learners.weights import Weights
from replay.errors import BadInput
from replay.schema import EpisodeSpec

Codec = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class RVQConfig:
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    bands: BandsConfig = field(default_factory=BandsConfig)
    chunks: ChunksConfig = field(default_factory=ChunksConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    analyse: AnalyseConfig = field(default_factory=AnalyseConfig)

    def build(self, spec: EpisodeSpec) -> RVQ:
        """Raises BadInput for actions of another shape."""
        shape = spec[self.chunks.action].shape
        if shape != (self.tokenizer.action_dim,):
            raise BadInput(
                f"Actions have shape {shape}, but tokenizer.action_dim={self.tokenizer.action_dim}.",
                f"Set tokenizer.action_dim={shape[0]}." if len(shape) == 1 else "Use an environment with flat actions.",
            )
        if has_plans(spec, self.chunks) and spec[self.chunks.plan].shape[0] < self.tokenizer.chunk_size:
            horizon = spec[self.chunks.plan].shape[0]
            raise BadInput(
                f"Predicted chunks have {horizon} actions, fewer than tokenizer.chunk_size.",
                f"Set tokenizer.chunk_size={horizon}.",
            )
        return RVQ(self)

    def export(self, spec: EpisodeSpec, weights: Weights, directory: Path, metrics: Metrics, provenance: str) -> None:
        """Writes what others can load, of trained weights: see RVQ.export."""
        system = self.build(spec)
        weights.apply(system)
        system.export(directory, metrics, provenance)


class RVQ(nn.Module):
    """Objectives: rvq, which trains, and analyse, which compares. Nobody acts here: there are no agents, but codecs."""

    def __init__(self, config: RVQConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.tokenizer
        self.tokenizer = RVQTokenizer.of(sizes)
        self.bands = BandTokenizer(sizes.action_dim, sizes.chunk_size, sizes.gripper, config.bands)
        self.notes, self.bands_notes = Notes(), Notes()  # cards of the data that each was fitted to
        self._objectives: Mapping[str, Objective] = {
            "rvq": RVQObjective(self.tokenizer, config.chunks, config.train, self.notes.write),
            "analyse": AnalyseObjective(config.analyse, self.tokenizer, self.bands, config.chunks, self.bands_notes),
        }

    def objective(self, name: str) -> Objective:
        if name not in self._objectives:
            raise KeyError(f"rvq has no objective {name!r}; there are {list(self._objectives)}")
        return self._objectives[name]

    def agent(self, name: str, explored: int = 0) -> Agent:
        raise KeyError(f"rvq has no agent {name!r}; it has none: its tokenizers code other policies' actions")

    @property
    def codecs(self) -> list[str]:
        """Names of what `codec` knows: of layers, and of tokens of the bands."""
        layers = [f"layers{number}" for number in range(1, self.tokenizer.num_layers + 1)]
        return layers + [f"bands{number}" for number in range(1, self.bands.num_layers + 1)]

    def codec(self, name: str) -> Codec:
        """Chunks (B, T, A) float32 in environment units -> what is left of them when they are coded by so many layers
        (`layers2`) or tokens of the bands (`bands21`). Raises KeyError, naming those there are.
        """
        if name not in self.codecs:
            layers, bands = f"layers1 to layers{self.tokenizer.num_layers}", f"bands1 to bands{self.bands.num_layers}"
            raise KeyError(f"rvq has no codec {name!r}; there are {layers} and {bands}")
        kind, number = ("layers", int(name[6:])) if name.startswith("layers") else ("bands", int(name[5:]))
        tokenizer = self.tokenizer if kind == "layers" else self.bands

        def coded(actions: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return tokenizer.decode(tokenizer.encode(actions, number)).cpu().numpy()

        return coded

    def export(self, directory: Path | str, metrics: Metrics, provenance: str = "") -> None:
        """Writes the learnt tokenizer's artefact, and that of the bands beside it (`<directory>-bands`) if they were
        fitted. Each has the card of the data that it was fitted to; `provenance` says in words whose actions they are.
        """
        directory, whose = Path(directory), {"provenance": provenance} if provenance else {}
        self.tokenizer.card = self.notes.read() | whose
        self.tokenizer.save(directory, metrics)
        if self.bands.ready:
            self.bands.card = self.bands_notes.read() | whose
            self.bands.save(directory.with_name(f"{directory.name}-bands"), metrics)
