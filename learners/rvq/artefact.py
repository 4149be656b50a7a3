"""A fitted tokenizer on disk: plain files that say what they are, complete or absent. Nothing in them can run code.

<directory>/config.json         kind, schema version, the tokenizer's configuration, SHA-256 of the other files
<directory>/model.safetensors   tensors by name
<directory>/normalizer.json     the ranges of actions, in environment units
<directory>/metrics.json        figures by name, and the card of the data that it was fitted to
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from learners.checkpoint import sync
from replay.errors import BadInput

SCHEMA = 1
CONFIG, MODEL, NORMALIZER, METRICS = "config.json", "model.safetensors", "normalizer.json", "metrics.json"
HASHED = (MODEL, NORMALIZER, METRICS)
RANGES = "normalizer."  # what the names of its tensors begin with; they are written as JSON

M = TypeVar("M", bound=Any)  # a module with a normalizer, a card and figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    kind: str  # which tokenizer it is
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    normalizer: Mapping[str, Any]
    card: Mapping[str, Any]  # of the data; see chunks.card
    figures: Mapping[str, float]


def write(directory: Path, artefact: Artefact) -> None:
    """Writes aside, syncs and renames. An artefact of that name is replaced."""
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in artefact.tensors.items()}
    save_file(tensors, temporary / MODEL)
    _dump(temporary / NORMALIZER, artefact.normalizer)
    _dump(temporary / METRICS, {"figures": artefact.figures, "data": artefact.card})
    hashes = {name: _sha256((temporary / name).read_bytes()) for name in HASHED}
    head = {"kind": artefact.kind, "schema": SCHEMA, "config": artefact.config, "sha256": hashes}
    _dump(temporary / CONFIG, head)
    for name in (*HASHED, CONFIG):
        sync(temporary / name)
    sync(temporary)
    if directory.exists():
        shutil.rmtree(directory)
    temporary.rename(directory)
    sync(directory.parent)


def read(directory: Path, kind: str) -> Artefact:
    """Raises BadInput if there is none, if it is damaged, of another kind or of a newer schema."""
    head = _head(directory)
    if head["schema"] > SCHEMA:
        raise BadInput(f"{directory} has schema {head['schema']}; this distwm reads up to {SCHEMA}.", "Update distwm.")
    if head["kind"] != kind:
        raise BadInput(f"{directory} is a tokenizer of kind {head['kind']!r}, not {kind!r}.", "Load it as what it is.")
    try:
        parts = {name: (directory / name).read_bytes() for name in HASHED}
        if wrong := [name for name in HASHED if _sha256(parts[name]) != head["sha256"][name]]:
            raise ValueError(f"{wrong[0]} is not what was written")
        metrics = json.loads(parts[METRICS])
        return Artefact(
            kind=kind,
            config=dict(head["config"]),
            tensors=load(parts[MODEL]),
            normalizer=dict(json.loads(parts[NORMALIZER])),
            card=dict(metrics["data"]),
            figures=dict(metrics["figures"]),
        )
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise damaged(directory, str(error)) from error


def revive(directory: Path, artefact: Artefact, make: Callable[[dict[str, Any]], M]) -> M:
    """The module that `make` builds of a configuration, with the artefact's state. Raises BadInput if they do not fit.

    It is first made without memory: a damaged configuration may ask for any amount.
    """
    config = {name: tuple(x) if isinstance(x, list) else x for name, x in artefact.config.items()}
    try:
        with torch.device("meta"):
            shapes = {name: (t.shape, t.dtype) for name, t in make(dict(config)).state_dict().items()}
        wanted = {name: found for name, found in shapes.items() if not name.startswith(RANGES)}
        if wanted != {name: (t.shape, t.dtype) for name, t in artefact.tensors.items()}:
            raise ValueError(f"{MODEL} does not fit {CONFIG}")
        module = make(dict(config))
        module.normalizer.load_json(artefact.normalizer)
    except (RuntimeError, ValueError, TypeError, KeyError, BadInput) as error:
        raise damaged(directory, str(error)) from error
    module.load_state_dict(dict(artefact.tensors), strict=False)
    module.card, module.figures = dict(artefact.card), dict(artefact.figures)
    return module.eval()


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What goes into model.safetensors: all but the ranges of actions."""
    return {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(RANGES)}


def damaged(directory: Path, why: str) -> BadInput:
    return BadInput(f"The tokenizer in {directory} is damaged: {why}.", "Export it again.")


def _head(directory: Path) -> dict[str, Any]:
    try:
        text = (directory / CONFIG).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{directory} holds no tokenizer.", f"Give a directory with a {CONFIG}.") from error
    try:
        head = json.loads(text)
        if not (isinstance(head["kind"], str) and isinstance(head["schema"], int) and isinstance(head["config"], dict)):
            raise TypeError("its head is not ours")
        dict(head["sha256"])
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(directory, f"{CONFIG} cannot be read ({error})") from error
    return head


def _dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
