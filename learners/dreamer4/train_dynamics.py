"""Phase 1b: the dynamics learn shortcut forcing on encoded video (Dreamer 4, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from learners.dreamer4.dynamics import Dynamics, DynamicsNetConfig
from learners.dreamer4.open_loop import OpenLoopConfig, open_loop
from learners.dreamer4.segments import LatentStore, Segments, draw_segments
from learners.dreamer4.shortcut import Conditions, draw, in_context, shortcut_loss
from learners.system import Metrics, OptimConfig
from replay.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicsConfig:
    net: DynamicsNetConfig = field(default_factory=DynamicsNetConfig, metadata={"flatten": True})
    optim: OptimConfig = field(default_factory=OptimConfig, metadata={"flatten": True})
    batch_size: int = 16  # sequences of the short length; long batches hold as many frames
    length_short: int = 16  # frames
    length_long: int = 32  # longer than the context, or the model always sees a first frame
    long_share: float = 0.1  # of the batches
    long_from: float = 0.9  # progress from which all batches are long
    image_share: float = 0.3  # of the sequences, whose frames are treated as independent images
    video_share: float = 0.0  # of the sequences, whose actions are hidden: unlabelled video
    bootstrap_share: float = 0.25  # of the sequences, trained on the bootstrap loss
    bootstrap_from: float = 0.35  # progress before which there is only the flow loss
    context_share: float = 0.0  # of the sequences, in which frames are past frames with probability context_keep
    context_keep: float = 0.7
    ramp_floor: float = 0.1  # w(tau) = (1 - floor) tau + floor
    open_loop: OpenLoopConfig = field(default_factory=OpenLoopConfig)

    def __post_init__(self) -> None:
        if max(self.length_short, self.length_long) <= self.net.transformer.context // 2:
            raise ValueError("dynamics.length_long must be longer than half of dynamics.transformer.context")


class DynamicsObjective:
    def __init__(self, config: DynamicsConfig, dynamics: Dynamics, store: LatentStore) -> None:
        self.config, self.dynamics, self.store = config, dynamics, store
        self.optim = config.optim

    def trained(self) -> nn.Module:
        return self.dynamics

    def prepare(self, source: Source) -> None:
        self.store.update(source)
        if not bool(self.dynamics.fitted):
            self.dynamics.fit_standard(self.store.sample(20_000))

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Segments:
        config = self.config
        coin = np.random.default_rng([*key, 1]).random()
        long = coin < config.long_share or progress >= config.long_from
        length = config.length_long if long else config.length_short
        size = max(1, config.batch_size * config.length_short // length)
        return draw_segments(self.store, source, key, size, length, progress)

    def loss(self, batch: Segments, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        return world_loss(self.config, self.dynamics, batch, generator)

    def stepped(self) -> None:
        """Nothing follows."""

    def gate(self, source: Source) -> Metrics:
        return open_loop(self.config.open_loop, self.dynamics, self.store, source).metrics()

    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        return {"open_loop": open_loop(self.config.open_loop, self.dynamics, self.store, source).arrays()}


def world_loss(
    config: DynamicsConfig, dynamics: Dynamics, batch: Segments, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Shortcut forcing on videos, and on single images (start frames) for a share of the sequences."""
    videos, images = split_images(batch, config.image_share)
    loss, metrics = _forcing(config, dynamics, videos, generator)
    if images is not None:
        image_loss, _ = _forcing(config, dynamics, images, generator)
        share = len(images.z) / (len(images.z) + videos.z.shape[0] * videos.z.shape[1])
        loss = (1 - share) * loss + share * image_loss
        metrics["image"] = image_loss.detach()
    return loss, metrics


def split_images(batch: Segments, share: float) -> tuple[Segments, Segments | None]:
    """Cut the first `share` of the sequences into videos of one frame, which have no action."""
    count = min(round(share * len(batch.z)), len(batch.z) - 1)
    if not count:
        return batch, None
    flat = batch.map(lambda x: x[:count].flatten(0, 1)[:, None])
    images = flat._replace(labelled=torch.zeros_like(flat.labelled))
    return batch.map(lambda x: x[count:]), images


def _forcing(
    config: DynamicsConfig, dynamics: Dynamics, batch: Segments, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    z = dynamics.standardise(batch.z)
    shape = (z.shape[0], z.shape[1])
    share = config.bootstrap_share if batch.progress >= config.bootstrap_from else 0.0
    drawn = in_context(
        draw(shape, dynamics.finest, share, generator), dynamics, config.context_share, config.context_keep, generator
    )
    known = torch.rand(shape[0], 1, generator=generator, device=z.device) >= config.video_share
    given = Conditions(batch.action, batch.labelled & known)
    return shortcut_loss(dynamics, z, drawn, given, config.ramp_floor, generator)
