"""LPIPS (Zhang et al. 2018, v0.1): distance of images in the features of an image classifier, fitted to human eyes.

Written in plain torch, because `import lpips` needs torchvision, whose compiled part may not load. The trunks carry
torchvision's parameter names, so its weight files fit; the fitted heads come out of the lpips wheel's own files.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from learners.seeding import seeded
from replay.errors import BadInput, Missing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LPIPSConfig:
    """`backbone`: "none" = no such loss; "local" = the weight file in $TORCH_HOME/hub/checkpoints; or the file's path;
    "random" = untrained features, which still compare structure but are not the published metric."""

    backbone: str = "none"
    net: Literal["vgg", "alex"] = "vgg"

    def __post_init__(self) -> None:
        if self.net not in _TRUNKS:
            raise BadInput(f"There is no LPIPS trunk {self.net!r}.", f"Use {' or '.join(_TRUNKS)}.")


class Trunk(NamedTuple):
    file: str  # as torchvision names it
    taps: tuple[int, ...]  # layers whose outputs are compared
    smallest_pixels: int


_TRUNKS: Mapping[str, Trunk] = {
    "vgg": Trunk("vgg16-397923af.pth", (3, 8, 15, 22, 29), 16),
    "alex": Trunk("alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11), 31),
}


class LPIPS(nn.Module):
    """Frozen. Not part of any checkpoint: its weights are a function of its configuration."""

    shift: Tensor
    scale: Tensor

    def __init__(self, config: LPIPSConfig) -> None:
        """Raises Missing if the weight files are not on this machine; BadInput if they do not fit, or for "none"."""
        super().__init__()
        self.config, self.taps = config, _TRUNKS[config.net].taps
        with seeded(0):  # "random" is the same in every process
            self.features = features(config.net)
        if config.backbone == "none":
            raise BadInput("LPIPS was built with backbone none.", "Leave it out, or name a backbone.")
        if config.backbone == "random":
            _log.warning("lpips.backbone=random: its features are untrained, so this is not the published metric")
        else:
            _fill(self.features, trunk_file(config))
        self.heads = nn.ParameterList(_heads(config.net))
        # ImageNet's mean and deviation, for images in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Images (N, H, W, 3) in [0, 1], twice -> distances (N,), 0 where they are equal. Gradients reach both."""
        smallest = _TRUNKS[self.config.net].smallest_pixels
        if min(a.shape[1:3]) < smallest or a.shape != b.shape or a.shape[-1] != 3:
            raise ValueError(f"LPIPS compares (N, H, W, 3) of at least {smallest} pixels; got {a.shape} and {b.shape}")
        if self.shift.device != a.device:
            self.to(a.device)  # objectives hold this module outside of the system that the learner moves
        pairs = zip(self.heads, self._outputs(a), self._outputs(b), strict=True)
        return torch.stack([((x - y).square() * head).sum(1).mean((1, 2)) for head, x, y in pairs]).sum(0)

    def _outputs(self, image: Tensor) -> list[Tensor]:
        """Features at the taps, of unit length at each position."""
        x, found = (2 * image.movedim(-1, 1) - 1 - self.shift) / self.scale, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                # The small number stands inside the root: outside, as in the original, dead features have no gradient.
                found.append(x * torch.rsqrt(x.float().square().sum(1, keepdim=True) + 1e-10))
        return found


def features(net: Literal["vgg", "alex"]) -> nn.Sequential:
    """The layers of torchvision's vgg16.features or alexnet.features, up to the last that LPIPS reads."""
    if net == "alex":
        convolutions = [nn.Conv2d(3, 64, 11, 4, 2), nn.Conv2d(64, 192, 5, 1, 2), nn.Conv2d(192, 384, 3, 1, 1)]
        convolutions += [nn.Conv2d(384, 256, 3, 1, 1), nn.Conv2d(256, 256, 3, 1, 1)]
        layers: list[nn.Module] = []
        for index, convolution in enumerate(convolutions):
            layers += [nn.MaxPool2d(3, 2)] if index in (1, 2) else []
            layers += [convolution, nn.ReLU()]
        return nn.Sequential(*layers)
    layers, last = [], 3
    for index, (width, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        layers += [nn.MaxPool2d(2, 2)] if index else []
        for _ in range(depth):
            layers += [nn.Conv2d(last, width, 3, 1, 1), nn.ReLU()]
            last = width
    return nn.Sequential(*layers)


def trunk_file(config: LPIPSConfig) -> Path:
    """Raises Missing, with what to fetch, if the file is not there."""
    name = _TRUNKS[config.net].file
    home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch")) / "hub" / "checkpoints" / name
    path = home if config.backbone == "local" else Path(config.backbone)
    if not path.is_file():
        raise Missing(
            f"LPIPS needs the {config.net} weights, and {path} is not there.",
            f"wget -P {home.parent} https://download.pytorch.org/models/{name}; or set lpips.backbone=none.",
        )
    return path


def _fill(trunk: nn.Sequential, path: Path) -> None:
    """Takes the `features.*` entries of a torchvision state dict."""
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _unpack(path)
        own = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        trunk.load_state_dict(own)
    except Exception as error:  # anybody's file: each library has its own errors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"{path} holds no weights of this LPIPS trunk: {reason}", "Fetch torchvision's file again."
        ) from error


def _heads(net: str) -> list[Tensor]:
    """One weight (C, 1, 1) a tap. The wheel is located, not imported: importing it would import torchvision."""
    found = importlib.util.find_spec("lpips")
    places = list(found.submodule_search_locations or []) if found else []
    path = Path(places[0], "weights", "v0.1", f"{net}.pth") if places else None
    if path is None or not path.is_file():
        raise Missing("LPIPS needs the fitted heads of the lpips wheel.", "pip install --no-deps lpips==0.1.4")
    state = _unpack(path)
    return [state[f"lin{i}.model.1.weight"][0] for i in range(len(_TRUNKS[net].taps))]


def _unpack(path: Path) -> Mapping[str, Tensor]:
    """A .pth file of tensors only: `weights_only` refuses everything that could run."""
    return torch.load(path, map_location="cpu", weights_only=True)
