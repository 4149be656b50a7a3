"""Where tensors live: the device of a learner, and how batches get there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from replay.errors import BadInput, Missing


def pick_device(name: str) -> torch.device:
    """Raises Missing if a GPU is asked for by name and there is none, BadInput for a name that torch does not know."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"There is no device {name!r}.", "Set learner.device to auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise Missing(
            f"learner.device={name}, but torch sees no GPU.", "Set learner.device=cpu, or install a CUDA torch."
        )
    return device


def map_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tree of NamedTuples, dataclasses, tuples, lists and dicts with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(x, change) for x in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(map_tensors(x, change) for x in tree)
    if isinstance(tree, dict):
        return {key: map_tensors(x, change) for key, x in tree.items()}
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        changed = {f.name: map_tensors(getattr(tree, f.name), change) for f in dataclasses.fields(tree) if f.init}
        return dataclasses.replace(tree, **changed)
    return tree


def pinned(batch: Any) -> Any:
    """Page-locked copies, from which a GPU reads while the CPU goes on."""
    return map_tensors(batch, Tensor.pin_memory)


def to_device(batch: Any, device: torch.device) -> Any:
    return map_tensors(batch, lambda x: x.to(device, non_blocking=True))
