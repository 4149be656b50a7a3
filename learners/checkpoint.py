"""Checkpoints: a directory of safetensors and JSON that is complete or absent. Nothing in it can run code.

<directory>/<group>.safetensors   tensors by name, one file a group
<directory>/state.json            everything else
<directory>/done                  written last: format, and the size and CRC-32 of each file
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from replay.errors import BadInput

FORMAT = 1
DONE, STATE = "done", "state.json"
_NAME = re.compile(r"[a-z_]+\.safetensors|state\.json")  # what may stand in a `done` file: no path, nothing else

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a directory holds; tensors are on the CPU and may map the file: copy what outlives it."""

    tensors: Mapping[str, Mapping[str, Tensor]]  # by group, by name
    state: Mapping[str, Any]


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Writes aside, syncs, marks as done and renames. A directory of that name is replaced.

    A kill while a directory is *replaced* may leave neither: give each checkpoint a name of its own.
    """
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for group, tensors in checkpoint.tensors.items():
        save_file(_separate(tensors), temporary / f"{group}.safetensors")
    (temporary / STATE).write_text(json.dumps(checkpoint.state, indent=1))
    files = {path.name: {"bytes": path.stat().st_size, "crc32": _crc32(path)} for path in sorted(temporary.iterdir())}
    for name in files:
        sync(temporary / name)
    (temporary / DONE).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1))
    sync(temporary / DONE)
    sync(temporary)
    if directory.exists():
        shutil.rmtree(directory)
    temporary.rename(directory)
    sync(directory.parent)


def load(directory: Path) -> Checkpoint:
    """Raises BadInput if the checkpoint is incomplete, damaged or of a newer format."""
    files = verify(directory)
    try:
        tensors = {Path(f).stem: load_file(directory / f) for f in files if f.endswith(".safetensors")}
        state = json.loads((directory / STATE).read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(directory, str(error)) from error
    return Checkpoint(tensors=tensors, state=state)


def verify(directory: Path) -> list[str]:
    """The names of the checkpoint's files, each as it was written. Raises BadInput."""
    try:
        done = json.loads((directory / DONE).read_text())
        form, files = int(done["format"]), dict(done["files"])
    except FileNotFoundError as error:
        raise BadInput(f"{directory} is no complete checkpoint.", "Use one that holds a file `done`.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(directory, f"its `{DONE}` cannot be read") from error
    if form > FORMAT:
        raise BadInput(f"{directory} has format {form}; this distwm reads up to {FORMAT}.", "Update distwm.")
    if STATE not in files:
        raise _damaged(directory, f"{STATE} is missing")
    for name, written in files.items():
        path = directory / name
        if not _NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
            raise _damaged(directory, f"{name!r} is no file of it")
        if {"bytes": path.stat().st_size, "crc32": _crc32(path)} != written:
            raise _damaged(directory, f"{name} is not what was written")
    return list(files)


def latest_complete(root: Path) -> Path | None:
    """The last directory of `root` by name that is whole; damaged ones are skipped with a warning."""
    for directory in reversed(_below(root)):
        try:
            verify(directory)
        except BadInput as error:
            _log.warning("skipped a checkpoint: %s", error)
            continue
        return directory
    return None


def prune(root: Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints, and what a killed save has left. For the one writer of `root`."""
    for left in root.glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    for old in [d for d in _below(root) if (d / DONE).is_file()][:-keep]:
        (old / DONE).unlink()  # first, so that half a directory never looks whole
        shutil.rmtree(old)


def hash_of(config: Any) -> str:
    """Sixteen hex digits that change with the class and any setting of a configuration."""
    text = json.dumps([type(config).__qualname__, asdict(config)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sync(path: Path) -> None:
    """What the page cache holds of a file or a directory goes to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _below(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous, on the CPU, and no two in one storage, as safetensors wants it (tied weights are saved twice)."""
    out, seen = {}, set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        if own.untyped_storage().data_ptr() in seen:
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        out[name] = own
    return out


def _crc32(path: Path, block_bytes: int = 2**22) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(block_bytes):
            value = zlib.crc32(block, value)
    return value


def _damaged(directory: Path, why: str) -> BadInput:
    return BadInput(f"The checkpoint {directory} is damaged: {why}.", "Delete it; an older one is used instead.")
