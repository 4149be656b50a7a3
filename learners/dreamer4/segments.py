"""What the later phases train on: windows of latents with actions and rewards, from frames encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from learners.dreamer4.tokenizer import Tokenizer
from replay.schema import EpisodeKey, Window
from replay.source import Source, Split


class Segments(NamedTuple):
    """B windows of T frames. `labelled` is false where no action is known, so also at the first frame of an episode."""

    z: Tensor  # (B, T, L, Z) latents of the tokenizer
    action: Tensor  # (B, T, A): the action that caused the frame
    labelled: Tensor  # (B, T) bool
    reward: Tensor  # (B, T): the reward that came with the frame
    progress: float  # of the stage, in [0, 1)

    def map(self, f: Callable[[Tensor], Tensor]) -> Segments:
        """The same of every array."""
        return Segments(f(self.z), f(self.action), f(self.labelled), f(self.reward), self.progress)


class LatentStore:
    """Latents of whole episodes, (T, L, Z) each: the tokenizer is frozen by now, so every frame is encoded once.

    Episodes are encoded from their first frame on, as a running agent would, so causal tokenizers agree with it.
    """

    def __init__(self, tokenizer: Tokenizer, image: str = "image", frames: int = 256) -> None:
        self.tokenizer, self.image, self.frames = tokenizer, image, frames
        self._episodes: dict[EpisodeKey, Tensor] = {}
        self._encoder: int | None = None  # the weights that encoded them

    def update(self, source: Source) -> None:
        """Encode what is new, forget what was evicted; encode all anew if the tokenizer has learnt since."""
        if (encoder := _fingerprint(self.tokenizer)) != self._encoder:
            self._encoder, self._episodes = encoder, {}
        keys = [*source.episodes("train"), *source.episodes("valid")]
        self._episodes = {k: self._episodes[k] for k in keys if k in self._episodes}
        for key in keys:
            if key not in self._episodes:
                self._episodes[key] = self._encode(source.episode(key, [self.image]).arrays[self.image])

    def of(self, windows: Sequence[Window]) -> Tensor:
        return torch.stack([self._episodes[w.key][w.start : w.start + w.length] for w in windows])

    def episode(self, key: EpisodeKey) -> Tensor:
        return self._episodes[key]

    def sample(self, count: int) -> Tensor:
        """Latents (N, L, Z) of about `count` frames, evenly over all episodes."""
        every = torch.cat(list(self._episodes.values()))
        return every[:: max(1, len(every) // count)]

    @torch.no_grad()
    def _encode(self, image: np.ndarray) -> Tensor:
        device = self.tokenizer.scale.device
        video = torch.from_numpy(np.ascontiguousarray(image))
        if self.tokenizer.causal:
            return self.tokenizer.encode(video[None].to(device))[0].cpu()
        parts = [self.tokenizer.encode(part[None].to(device))[0].cpu() for part in video.split(self.frames)]
        return torch.cat(parts)


def _fingerprint(module: nn.Module) -> int:
    """CRC-32 of the weights."""
    crc = 0
    for tensor in module.state_dict().values():
        crc = crc32(tensor.cpu().reshape(-1).view(torch.uint8).numpy(), crc)
    return crc


def draw_segments(
    store: LatentStore,
    source: Source,
    key: tuple[int, ...],
    batch: int,
    length: int,
    progress: float,
    split: Split = "train",
) -> Segments:
    """Uniform windows of the split; see Source.batch for `key`."""
    drawn = source.batch(key, batch, length, ["action", "reward", "is_first"], split)
    arrays = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in drawn.arrays.items()}
    return Segments(store.of(drawn.windows), arrays["action"], ~arrays["is_first"], arrays["reward"], progress)
