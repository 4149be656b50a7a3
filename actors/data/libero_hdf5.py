"""Demonstrations of LIBERO and robomimic: HDF5 files with `data/demo_<n>/{actions, rewards, dones, obs/...}`."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from actors.data.options import ReadOptions
from replay.check import DTYPES, check_spec
from replay.dataset.episodes import Actor, NamedEpisode, Unreadable, check_episode
from replay.errors import BadInput, Missing
from replay.schema import FLAGS, EpisodeSpec

# What our environments call what the files hold; LIBERO's first, then robomimic's.
NAMES = {
    "agentview_rgb": "agentview",
    "eye_in_hand_rgb": "wrist",
    "agentview_image": "agentview",
    "robot0_eye_in_hand_image": "wrist",
}
_PROPRIO = ("ee_states", "gripper_states")  # together what LIBERO's environment calls "proprio"
_ERRORS = (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Column:
    """An observation: the data sets that it is made of, side by side, and what becomes of them."""

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    turned: bool = False  # by 180 degrees, as LIBERO's environment turns its pictures

    def read(self, group: Any, rows: Any = slice(None)) -> np.ndarray:
        """(T, *shape), perhaps a view."""
        parts = [_values(group, key, rows) for key in self.keys]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        if self.turned:
            values = values[:, ::-1, ::-1]
        if self.dtype == "uint8" and values.ndim == 4 and values.shape[1:] != self.shape:
            values = np.stack([_resized(frame, self.shape) for frame in values])
        return values.astype(self.dtype, copy=False)


class LiberoReader:
    """Implements `Reader`. One demonstration is in memory at a time."""

    def __init__(self, path: Path, rename: Mapping[str, str], options: ReadOptions) -> None:
        """`path` is a file or a folder, searched to any depth; `rename` gives data sets of obs/ other names, and an
        empty one leaves one out. Raises Missing without h5py, BadInput if there is no demonstration."""
        self._h5py = _h5py()
        path = Path(path).resolve()
        files = sorted([*path.rglob("*.hdf5"), *path.rglob("*.h5")]) if path.is_dir() else [path]
        self._root = path if path.is_dir() else path.parent
        self._demos: dict[str, tuple[Path, str]] = {}
        self._wrong: list[Unreadable] = []
        self._columns: dict[str, _Column] | None = None
        self._why = ""  # the first demonstration says nothing of its fields
        for file in files:
            self._look(file, rename, options.image_size)
        if self._columns is None:
            why = f": {found}" if (found := self._wrong[0].reason if self._wrong else self._why) else ""
            raise BadInput(f"{path} holds no demonstrations{why}.", "Give .hdf5 files with data/demo_0/actions.")
        self.episodes = len(self._demos) + len(self._wrong)
        fields = {name: (c.shape, c.dtype) for name, c in self._columns.items()}
        self.spec: EpisodeSpec = EpisodeSpec.build(fields, self._width)
        check_spec(self.spec)
        turned = [name for name, c in self._columns.items() if c.turned]
        self.origin: dict[str, Any] = {
            "format": "libero",
            "path": str(path),
            "source": "human: demonstrations by teleoperation",
            "fields": {name: list(c.keys) for name, c in self._columns.items()},
            "preprocess": dict.fromkeys(turned, "rotate180"),
        }

    def read(self, skip: Container[str] = ()) -> Iterator[NamedEpisode | Unreadable]:
        """Every demonstration whose name is not in `skip`, file by file, in the order of their numbers."""
        yield from self._wrong
        for name in self._demos:
            if name not in skip:
                yield self._demo(name)

    def named(self, name: str) -> NamedEpisode:
        """One demonstration. Raises KeyError if there is none, BadInput if it is damaged."""
        found = self._demo(name)
        if isinstance(found, Unreadable):
            raise BadInput(f"{found.reason}.", "Restore the file.")
        return found

    def _look(self, file: Path, rename: Mapping[str, str], size: int | None) -> None:
        """Notes the demonstrations of a file; the first one that can be read says what fields there are."""
        short = file.relative_to(self._root).with_suffix("").as_posix()
        try:
            with self._h5py.File(file, "r") as opened:
                for demo in sorted(opened["data"], key=_number):
                    self._demos[f"{short}/{demo}"] = file, demo
                    if self._columns is None:
                        self._learn(opened["data"][demo], rename, size)
        except _ERRORS as error:
            bytes_ = file.stat().st_size if file.is_file() else 0
            self._wrong.append(Unreadable(name=short, reason=f"{file} ({bytes_} bytes): {_brief(error)}"))

    def _learn(self, group: Any, rename: Mapping[str, str], size: int | None) -> None:
        """What fields there are, unless this demonstration is damaged: then reading it says so."""
        try:
            columns, width = _columns(group["obs"], rename, size), int(group["actions"].shape[1])
        except _ERRORS as error:
            self._why = self._why or _brief(error)
            return
        self._columns, self._width = columns, width

    def _demo(self, name: str) -> NamedEpisode | Unreadable:
        file, demo = self._demos[name]
        place = f"{file}, data/{demo}"
        try:
            with self._h5py.File(file, "r") as opened:
                group = opened["data"][demo]
                task = _task(opened["data"].attrs, file)
                arrays = self._arrays(group)
            episode = NamedEpisode(name=name, arrays=arrays, actors=(Actor(0, "human", 0),), task=task)
            check_episode(self.spec, episode)
            return episode
        except BadInput as error:
            return Unreadable(name=name, reason=f"{place}: {error.message.rstrip('.')}")
        except _ERRORS as error:
            return Unreadable(name=name, reason=f"{place}: {_brief(error)}")

    def _arrays(self, group: Any) -> dict[str, np.ndarray]:
        """T decisions make T + 1 records. The last observation is the file's own if it has one (robomimic's next_obs),
        else the one before once more."""
        actions, rewards = (_values(group, key).astype(np.float32) for key in ("actions", "rewards"))
        if len(rewards) != len(actions):
            raise ValueError(f"rewards has {len(rewards)} rows for {len(actions)} actions")
        steps, arrays = len(actions) + 1, {}
        assert self._columns is not None
        for name, column in self._columns.items():
            values = column.read(group["obs"])
            has_next = "next_obs" in group and all(key in group["next_obs"] for key in column.keys)
            last = column.read(group["next_obs"], slice(-1, None)) if has_next else values[-1:]
            arrays[name] = np.concatenate([values, last])
        arrays["action"] = np.concatenate([np.zeros_like(actions[:1]), actions])
        arrays["reward"] = np.concatenate([np.zeros(1, np.float32), rewards.reshape(-1)])
        arrays |= {name: np.zeros(steps, bool) for name in FLAGS}
        arrays["is_first"][0] = arrays["is_last"][-1] = True
        arrays["is_terminal"][-1] = bool(_values(group, "dones", -1)) if "dones" in group else False
        return arrays


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise Missing("HDF5 files need h5py.", "Run: pip install 'distwm[hdf5]'") from error
    return h5py


def _values(group: Any, key: str, rows: Any = slice(None)) -> np.ndarray:
    """Of a data set. Raises OSError that names it and the place in the file."""
    found = group[key]
    try:
        return np.asarray(found[rows])
    except OSError as error:
        raise OSError(f"{found.name} at byte {_place(found)}: {_brief(error)}") from error


def _place(found: Any) -> int:
    """The byte at which the values lie that cannot be read, of one chunk where there are several."""
    if found.chunks is None:
        return int(found.id.get_offset() or 0)
    for number in range(found.id.get_num_chunks()):
        chunk = found.id.get_chunk_info(number)
        try:
            found[tuple(slice(at, at + size) for at, size in zip(chunk.chunk_offset, found.chunks, strict=True))]
        except OSError:
            return int(chunk.byte_offset)
    return 0


def _columns(group: Any, rename: Mapping[str, str], size: int | None) -> dict[str, _Column]:
    """Field -> what it is made of."""
    if unknown := sorted(rename.keys() - set(group)):
        raise BadInput(f"There is no {unknown[0]!r} in obs/.", f"Choose of: {', '.join(sorted(group))}.")
    found: dict[str, _Column] = {}
    for key in sorted(group):
        name, values = rename.get(key, NAMES.get(key, key)), group[key]
        if not name or str(values.dtype) not in DTYPES:
            continue
        shape, dtype = tuple(values.shape[1:]), str(values.dtype)
        picture = dtype == "uint8" and len(shape) == 3
        if picture and size:
            shape = (size, size, shape[2])
        column = _Column((key,), shape, dtype if picture or dtype != "float64" else "float32", key.endswith("_rgb"))
        if name in found:
            raise BadInput(f"Two data sets would be the field {name!r}.", f"Give --rename {key}=NAME.")
        found[name] = column
    if all(key in found and key not in rename for key in _PROPRIO) and "proprio" not in found:
        width = sum(found[key].shape[0] for key in _PROPRIO)
        found["proprio"] = _Column(_PROPRIO, (width,), "float32")
    return found


def _task(notes: Mapping[str, Any], file: Path) -> str:
    """The instruction, which LIBERO keeps as JSON; else what the file is called."""
    try:
        said = json.loads(notes["problem_info"])["language_instruction"]
        return ("".join(said) if isinstance(said, list) else str(said)).strip().strip('"')
    except (LookupError, ValueError, TypeError):
        return file.stem.removesuffix("_demo").replace("_", " ")


def _resized(frame: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    picture = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BOX)).reshape(shape)


def _number(demo: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", demo)
    return int(digits[0]) if digits else -1, demo


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
