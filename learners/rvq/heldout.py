"""A tokenizer on chunks that it was not fitted to, for every number of its layers.

Shapes: N chunks of T steps, A numbers of an action, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from learners.rvq.errors import Errors, r2, ratio, sign_errors, squared
from learners.rvq.normalizer import Normalizer
from learners.rvq.quantizer import perplexity, usage
from learners.system import Metrics


class Tokenizer(Protocol):
    """What RVQTokenizer and BandTokenizer have in common."""

    normalizer: Normalizer

    @property
    def vocab_size(self) -> int: ...

    @property
    def num_layers(self) -> int: ...

    def bits_per_chunk(self, layers: int | None = None) -> int: ...

    def tokens_per_chunk(self, layers: int | None = None) -> int: ...

    def normalise(self, actions: Tensor | np.ndarray) -> Tensor: ...

    def encode(self, actions: Tensor | np.ndarray, layers: int | None = None) -> Tensor: ...

    def decode(self, codes: Tensor, layers: int | None = None) -> Tensor: ...

    def reconstruct(self, codes: Tensor, layers: int | None = None) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """By number of layers, index 0 being one."""

    layers: np.ndarray  # (L,) int64
    bits: np.ndarray
    tokens: np.ndarray
    ratio: np.ndarray  # float32 bits of a chunk over its bits
    errors: tuple[Errors, ...]  # of each chunk
    r2: np.ndarray
    sign_errors: np.ndarray
    usage: np.ndarray  # share of the codes of the last layer that occur
    perplexity: np.ndarray
    counts: np.ndarray  # (L, K): how often each code of each layer occurs

    def metrics(self) -> Metrics:
        out: Metrics = {}
        for number, errors in zip(self.layers.tolist(), self.errors, strict=True):
            out |= {f"mse_l{number}": float(errors.norm.mean()), f"raw_mse_l{number}": float(errors.raw.mean())}
            out |= {f"usage_l{number}": float(self.usage[number - 1])}
            out |= {f"perplexity_l{number}": float(self.perplexity[number - 1])}
            out |= {f"gripper_errors_l{number}": float(self.sign_errors[number - 1])}
        return out | {"chunks": float(len(self.errors[0].norm)), "r2": float(self.r2[-1])}

    def arrays(self) -> dict[str, np.ndarray]:
        """mse and std over chunks (L,) of each kind of error, and the rest as it is."""
        out = {n: getattr(self, n) for n in ("layers", "bits", "tokens", "ratio", "r2", "sign_errors")}
        for kind in Errors._fields:
            values = np.stack([getattr(errors, kind) for errors in self.errors])
            out |= {f"mse_{kind}": values.mean(1), f"std_{kind}": values.std(1)}
        return out | {"usage": self.usage, "perplexity": self.perplexity}


@torch.no_grad()
def by_layers(tokenizer: Tokenizer, actions_NTA: np.ndarray) -> Layers:
    """Of every prefix of the codes of chunks in environment units."""
    truth = tokenizer.normalise(actions_NTA)
    codes_NPL, x = tokenizer.encode(actions_NTA), truth.cpu().numpy()
    scale, gripper = half_ranges(tokenizer.normalizer), tokenizer.normalizer.gripper
    numbers = range(1, tokenizer.num_layers + 1)
    found = [tokenizer.reconstruct(codes_NPL, number).cpu().numpy() for number in numbers]
    lost = lost_by(tokenizer.normalizer, actions_NTA)
    errors = tuple(squared(x, each, scale, gripper, lost) for each in found)
    count = tokenizer.vocab_size
    last = [codes_NPL[..., number - 1] for number in numbers]
    return Layers(
        layers=np.arange(1, len(found) + 1),
        bits=np.asarray([tokenizer.bits_per_chunk(number) for number in numbers]),
        tokens=np.asarray([tokenizer.tokens_per_chunk(number) for number in numbers]),
        ratio=np.asarray([ratio(tokenizer.bits_per_chunk(number), *x.shape[1:]) for number in numbers]),
        errors=errors,
        r2=np.asarray([r2(float(each.norm.mean()), x) for each in errors]),
        sign_errors=np.asarray([sign_errors(x, each, gripper) for each in found]),
        usage=np.asarray([usage(codes, count) for codes in last]),
        perplexity=np.asarray([perplexity(codes, count) for codes in last]),
        counts=np.stack([torch.bincount(codes.flatten().cpu(), minlength=count).numpy() for codes in last]),
    )


def half_ranges(normalizer: Normalizer) -> np.ndarray:
    """(A,) environment units of one normalised unit."""
    return ((normalizer.high - normalizer.low) / 2).cpu().double().numpy()


def lost_by(normalizer: Normalizer, actions_NTA: np.ndarray) -> np.ndarray:
    """(N, T) environment units of the gripper that no code can bring back."""
    actions = torch.as_tensor(actions_NTA, dtype=torch.float32, device=normalizer.low.device)
    return normalizer.lost(actions).cpu().double().numpy()
