"""Published weights: what a learner hands to those that act, through the object store or through a directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import nn

from learners.checkpoint import sync
from replay.errors import BadInput, TryAgain


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The whole state of a system by name. `version` grows whenever it may have changed."""

    version: int
    arrays: Mapping[str, np.ndarray]

    @staticmethod
    def of(module: nn.Module, version: int) -> Weights:
        """A copy: later updates do not reach it."""
        arrays = {name: np.array(tensor.detach().cpu().numpy()) for name, tensor in module.state_dict().items()}
        return Weights(version=version, arrays=arrays)

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        """Copies the arrays into a module of the same configuration. Raises BadInput if names or shapes differ."""
        # A copy of each, because arrays from the object store are read-only and torch has no such tensors.
        state = {name: torch.from_numpy(np.array(array)) for name, array in self.arrays.items()}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise BadInput(
                f"Weights {self.version} do not fit the system: {reason}.",
                "Use the configuration they were trained with.",
            ) from error


def publish(weights: Weights, directory: Path, keep: int = 2) -> Path:
    """Writes `weights-<version>.safetensors` and deletes all but the newest `keep`. Readers see whole files only."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"weights-{weights.version:012d}.safetensors"
    temporary = path.with_name(f".{path.name}.tmp")
    arrays = {name: np.ascontiguousarray(a) for name, a in weights.arrays.items()}
    save_file(arrays, temporary, metadata={"version": str(weights.version)})
    sync(temporary)
    temporary.replace(path)
    sync(directory)
    for old in _published(directory)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load(directory: Path, attempts: int = 5) -> Weights | None:
    """The newest published weights, or None if there are none yet. Raises BadInput for a damaged file."""
    for _ in range(attempts):
        paths = _published(directory)
        if not paths:
            return None
        try:
            return _read(paths[-1])
        except FileNotFoundError:
            continue  # newer ones came, and the writer deleted these
    raise TryAgain(f"Weights in {directory} vanish faster than they can be read.", "Publish with a larger `keep`.")


def _published(directory: Path) -> list[Path]:
    return sorted(directory.glob("weights-*.safetensors"))


def _read(path: Path) -> Weights:
    try:
        with safe_open(path, framework="numpy") as file:
            version = int((file.metadata() or {})["version"])
            return Weights(version=version, arrays={name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadInput(f"{path} holds no weights: {error}.", "Delete it, and publish again.") from error
