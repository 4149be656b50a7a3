"""The world model as a game: after a few true frames, each action brings the next dreamt frame."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from learners.dreamer4.dynamics import Dynamics
from learners.dreamer4.shortcut import Conditions, commit, generate
from learners.dreamer4.tokenizer import Tokenizer
from replay.schema import Episode


class Dreamer4Player:
    """`batch_size` dreams at once, all from one context. Each frame costs `steps` drafts, a commit and a decoding."""

    def __init__(
        self, tokenizer: Tokenizer, dynamics: Dynamics, image: str, steps: int, batch_size: int = 1, seed: int = 0
    ) -> None:
        self.tokenizer, self.dynamics, self.image = tokenizer, dynamics, image
        self.steps, self.batch_size = steps, batch_size
        self.device = dynamics.scale.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._forget()

    @torch.no_grad()
    def reset(self, context: Episode) -> None:
        """Begins after the true frames and actions of `context`, an episode's first steps."""
        self._forget()
        arrays = {name: self._batched(context.arrays[name]) for name in (self.image, "action", "is_first")}
        z = self.dynamics.standardise(self.tokenizer.encode(arrays[self.image]))
        labelled = ~arrays["is_first"]
        for t in range(z.shape[1]):
            self._commit(z[:, [t]], Conditions(arrays["action"][:, [t]], labelled[:, [t]]))
            if self.tokenizer.config.decoder.time_every:  # else the decoder remembers nothing
                self._decode(z[:, [t]])

    @torch.no_grad()
    def step(self, action: np.ndarray) -> np.ndarray:
        """Action (A,) in [-1, 1] -> the frame (H, W, 3) uint8 that it leads to. B dreams: (B, A) -> (B, H, W, 3)."""
        wanted = torch.from_numpy(np.asarray(action, np.float32)).to(self.device).reshape(self.batch_size, 1, -1)
        given = Conditions(wanted, torch.ones(self.batch_size, 1, dtype=torch.bool, device=self.device))
        shape = (self.batch_size, 1, *self.dynamics.scale.shape)
        z = generate(self.dynamics, self._past, shape, given, self.steps, self.generator)
        self._commit(z, given)
        frames = (self._decode(z)[:, 0] * 255).round().byte().cpu().numpy()
        return frames[0] if self.batch_size == 1 else frames

    def _forget(self) -> None:
        self._past = self.dynamics.cache(self.batch_size, self.device)
        self._drawn = self.tokenizer.cache(self.batch_size, self.device)

    def _commit(self, z: Tensor, given: Conditions) -> None:
        commit(self.dynamics, self._past, z, given, None, self.generator)

    def _decode(self, z: Tensor) -> Tensor:
        frames = self.tokenizer.decode(self.dynamics.original(z), self._drawn)
        self._drawn.decoder.advance()
        return frames

    def _batched(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return tensor.expand(self.batch_size, *tensor.shape)
