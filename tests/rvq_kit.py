"""Tokenizers small enough to train in a second, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from learners.rvq.analyse import AnalyseConfig
from learners.rvq.bands import BandsConfig
from learners.rvq.chunks import ChunksConfig
from learners.rvq.fitting import TrainConfig
from learners.rvq.rates import PeersConfig
from learners.rvq.system import RVQ, RVQConfig
from learners.rvq.tokenizer import TokenizerConfig
from replay.schema import EpisodeSpec
from replay.source import Source


def config(train: Mapping[str, Any] | None = None, **tokenizer: Any) -> RVQConfig:
    """3 layers of 32 codes of 16 numbers."""
    return RVQConfig(
        tokenizer=TokenizerConfig(**{"num_layers": 3, "hidden_dim": 16, "num_embeddings": 32, **tokenizer}),
        bands=BandsConfig(tokens=6, num_embeddings=32, widths=(4, 8), iterations=5),
        chunks=ChunksConfig(),
        train=TrainConfig(**{"batch_size": 32, "lr": 3e-3, "warmup_steps": 5, **(train or {})}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TwiceConfig:
    """The same system, whose batches are those of the first two learners of a group."""

    inner: RVQConfig

    def build(self, spec: EpisodeSpec) -> RVQ:
        system = self.inner.build(spec)
        objective = system.objective("rvq")
        draw = objective.batch

        def both(source: Source, key: tuple[int, ...], progress: float) -> Tensor:
            return torch.cat([draw(source, (*key[:-1], key[-1] + rank), progress) for rank in range(2)])

        objective.batch = both  # type: ignore[method-assign]
        return system


def quick() -> RVQConfig:
    """A comparison of a second."""
    peers = PeersConfig(dct_keep=(1, 3), fast_scales=(2.0, 4.0), fast_vocabulary=150, step_layers=2, step_codes=16)
    return replace(config(), analyse=AnalyseConfig(compare_bits=(20, 30), resamples=200, peers=peers))
