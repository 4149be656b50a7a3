"""Phase 1a: the tokenizer learns to draw masked video (Dreamer 4, section 3.1: masking, MSE + 0.2 LPIPS)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from learners.dreamer4.probe import position_probe
from learners.dreamer4.tokenizer import Tokenizer, TokenizerNetConfig, random_crop, random_mask
from learners.maths import psnr
from learners.nn.lpips import LPIPS, LPIPSConfig
from learners.nn.running import RunningRMS
from learners.system import Metrics, OptimConfig
from replay.source import Source, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    net: TokenizerNetConfig = field(default_factory=TokenizerNetConfig, metadata={"flatten": True})
    optim: OptimConfig = field(default_factory=OptimConfig, metadata={"flatten": True})
    batch_size: int = 32  # videos
    length: int = 1  # frames of each
    mask_highest: float = 0.9  # each frame drops its patches with p ~ U(0, mask_highest)
    mask_share: float = 1.0  # share of the frames that are masked at all
    crop_pixels: int = 0  # random shift of a video, at most
    lpips_weight: float = 0.2
    lpips: LPIPSConfig = field(default_factory=LPIPSConfig)
    rms_losses: bool = True  # divide each loss by its running root mean square
    fit_frames: int = 4096  # frames from which mean and scale are taken


class Videos(NamedTuple):
    image: Tensor  # (B, T, H, W, 3) uint8


class TokenizerObjective:
    def __init__(self, config: TokenizerConfig, tokenizer: Tokenizer, image: str = "image") -> None:
        self.config, self.tokenizer, self.image = config, tokenizer, image
        self.optim = config.optim
        self.lpips = LPIPS(config.lpips) if config.lpips.backbone != "none" else None
        self.rms = nn.ModuleDict({"mse": RunningRMS(), "lpips": RunningRMS()})

    def trained(self) -> nn.Module:
        return self.tokenizer

    def prepare(self, source: Source) -> None:
        """Mean and scale are those of the training frames stored when the stage starts."""
        if not bool(self.tokenizer.fitted):
            self.tokenizer.fit_standard(self._frames(source, "train", self.config.fit_frames))

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Videos:
        drawn = source.batch(key, self.config.batch_size, self.config.length, [self.image])
        return Videos(torch.from_numpy(np.ascontiguousarray(drawn.arrays[self.image])))

    def loss(self, batch: Videos, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        config, net = self.config, self.tokenizer
        image = random_crop(batch.image, config.crop_pixels, generator) if config.crop_pixels else batch.image
        shape = (image.shape[0], image.shape[1])
        hidden = random_mask(shape, len(net.position), config.mask_highest, config.mask_share, generator)
        x = net.standardise(image)
        x_hat = net.decode_standard(net.encode_standard(x, hidden=hidden))
        terms = {"mse": (x_hat - x).square().mean()}
        if self.lpips is not None:
            truth, drawn = (y.flatten(0, 1) * net.scale + net.mean for y in (x, x_hat))
            terms["lpips"] = self.lpips(drawn, truth).mean()
        weights = {"mse": 1.0, "lpips": config.lpips_weight}
        parts = (weights[n] * (self.rms[n](v) if config.rms_losses else v) for n, v in terms.items())
        return sum(parts, start=x.new_zeros(())), terms

    @torch.no_grad()
    def stepped(self) -> None:
        """Nothing follows."""

    def gate(self, source: Source) -> Metrics:
        """PSNR of held-out frames, of the whole image and of what differs from the mean image; the position probe."""
        net = self.tokenizer
        truth = self._frames(source, "valid", 1024).to(net.scale.device)
        drawn = net.decode(net.encode(truth[:, None]))[:, 0]
        error = (drawn - truth.float() / 255).square()
        moving = ((truth.float() / 255 - net.mean).abs() > 0.05).any(-1, keepdim=True).expand_as(error)
        out = {"psnr": float(psnr(error.mean())), "psnr_foreground": float(psnr(error[moving].mean()))}
        return out | position_probe(net, source, self.image)

    @torch.no_grad()
    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        truth = self._frames(source, "valid", 16)
        drawn = self.tokenizer.decode(self.tokenizer.encode(truth[:, None].to(self.tokenizer.scale.device)))[:, 0]
        return {
            "reconstruction": {"truth": truth.numpy(), "reconstruction": (drawn * 255).round().byte().cpu().numpy()}
        }

    def _frames(self, source: Source, split: Split, count: int) -> Tensor:
        drawn = source.batch((0, 0, count), count, 1, [self.image], split)
        return torch.from_numpy(np.ascontiguousarray(drawn.arrays[self.image][:, 0]))
