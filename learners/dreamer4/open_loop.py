"""Is the world model any good? Open-loop prediction of unseen video against copying, shuffled actions, the ceiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learners.dreamer4.dynamics import Dynamics
from learners.dreamer4.segments import LatentStore
from learners.dreamer4.shortcut import Conditions, commit, generate
from learners.system import Metrics
from replay.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoopConfig:
    episodes: int = 64  # held-out windows
    context: int = 8  # true frames first
    horizon: int = 12  # frames predicted
    steps: int = 4  # shortcut steps of a frame
    report: tuple[int, ...] = (1, 4, 8, 12)  # horizons whose figures are printed


class OpenLoop(NamedTuple):
    """Mean squared errors by horizon (index 0 is one frame ahead), of the whole image and of the foreground."""

    truth: np.ndarray  # (N, T, H, W, 3) uint8, context and horizon
    prediction: np.ndarray
    context: int
    report: tuple[int, ...]
    errors: dict[str, np.ndarray]  # "mse_model", "fg_copy", ...: (horizon,)

    def metrics(self) -> Metrics:
        """`gain_h` > 1 where the foreground error is below copy-last's; `action_use_h`: shuffled over true actions."""
        out: Metrics = {}
        for h in self.report:
            fg = {name: float(self.errors[f"fg_{name}"][h - 1]) for name in ("model", "copy", "shuffled", "ceiling")}
            out |= {f"fg_{name}_h{h}": value for name, value in fg.items()}
            out[f"gain_h{h}"] = fg["copy"] / max(fg["model"], 1e-9)
            out[f"action_use_h{h}"] = fg["shuffled"] / max(fg["model"], 1e-9)
            out[f"psnr_h{h}"] = float(-10 * np.log10(self.errors["mse_model"][h - 1] + 1e-10))
        return out

    def arrays(self) -> dict[str, np.ndarray]:
        few = slice(0, 8)
        horizon = np.arange(1, len(self.errors["mse_model"]) + 1)
        shown = {"truth": self.truth[few], "prediction": self.prediction[few], "context": np.asarray(self.context)}
        return shown | {"horizon": horizon} | self.errors


@torch.no_grad()
def open_loop(config: OpenLoopConfig, dynamics: Dynamics, store: LatentStore, source: Source) -> OpenLoop:
    """Dream `horizon` frames after `context` true ones with the recorded actions, and with those of another row."""
    total, device = config.context + config.horizon, dynamics.scale.device
    names = [store.image, "action", "is_first"]
    drawn = source.batch((0, 2, total), config.episodes, total, names, "valid")
    z = dynamics.standardise(store.of(drawn.windows).to(device))
    arrays = {n: torch.from_numpy(np.ascontiguousarray(a)).to(device) for n, a in drawn.arrays.items()}
    action, labelled = arrays["action"], ~arrays["is_first"]
    shuffled = torch.cat((action[:, : config.context], action[:, config.context :].roll(1, 0)), dim=1)
    truth = arrays[store.image]
    dreams = {
        "model": rollout(config, dynamics, z, Conditions(action, labelled)),
        "shuffled": rollout(config, dynamics, z, Conditions(shuffled, labelled)),
        "copy": z[:, [config.context - 1]].expand(-1, config.horizon, -1, -1),
        "ceiling": z[:, config.context :],
    }
    videos = {name: _decode(store, dynamics, dream) for name, dream in dreams.items()}
    videos["copy"] = truth[:, [config.context - 1]].expand_as(videos["model"]).float() / 255
    errors = _errors(truth, videos, config.context, store.tokenizer.mean)
    prediction = truth.clone()
    prediction[:, config.context :] = (videos["model"] * 255).round().byte()
    return OpenLoop(truth.cpu().numpy(), prediction.cpu().numpy(), config.context, config.report, errors)


def rollout(config: OpenLoopConfig, dynamics: Dynamics, z: Tensor, given: Conditions) -> Tensor:
    """Standardised latents (N, context + horizon, L, Z) -> the dreamt ones (N, horizon, L, Z)."""
    generator = torch.Generator(z.device).manual_seed(0)
    cache = dynamics.cache(len(z), z.device)
    for t in range(config.context):
        commit(dynamics, cache, z[:, [t]], Conditions(*(x[:, [t]] for x in given)), None, generator)
    out = []
    for t in range(config.context, z.shape[1]):
        now = Conditions(*(x[:, [t]] for x in given))
        out.append(generate(dynamics, cache, tuple(z[:, [t]].shape), now, config.steps, generator))
        commit(dynamics, cache, out[-1], now, None, generator)
    return torch.cat(out, dim=1)


def _decode(store: LatentStore, dynamics: Dynamics, z: Tensor) -> Tensor:
    return torch.cat([store.tokenizer.decode(dynamics.original(part)) for part in z.split(16)])


def _errors(truth: Tensor, videos: dict[str, Tensor], context: int, background: Tensor) -> dict[str, np.ndarray]:
    """The foreground is where the true frame or the last true frame before the dream differs from the mean image."""
    future, last = truth[:, context:].float() / 255, truth[:, [context - 1]].float() / 255
    moving = ((future - background).abs() > 0.05).any(-1) | ((last - background).abs() > 0.05).any(-1)
    out = {}
    for name, video in videos.items():
        error = (video - future).square().mean(-1)
        out[f"mse_{name}"] = error.mean((0, 2, 3)).cpu().numpy()
        out[f"fg_{name}"] = ((error * moving).sum((0, 2, 3)) / moving.sum((0, 2, 3)).clamp(min=1)).cpu().numpy()
    return out
