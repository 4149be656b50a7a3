"""Actions out of recorded data of several formats, without its pictures.

dataset   our own recorded data (manifest.json)
lerobot   LeRobot v3 (meta/info.json): the column `action`; in exports of ours also the chunks
libero    HDF5 of LIBERO and robomimic, a file or a folder: data/demo_<n>/actions
npz       a file, or a folder with an episode a file: `actions` (N, A), where row t is what was done upon
          observation t; perhaps `episode_ends` (E,), the row after the last one of each episode; perhaps `plan`
          (N, H, A) and `plan_step` (N,): the chunk that row t was executed from, and which of its actions that was
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from replay.errors import BadInput, Missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What was done in one episode."""

    name: str
    actions: np.ndarray  # (T, A) float32; row t is what was done upon observation t
    chunks: Mapping[int, np.ndarray] = field(default_factory=dict)  # t -> (H, A) that was predicted upon observation t


def read_recordings(path: Path, kind: str = "") -> list[Recording]:
    """Every episode, in a fixed order. Raises Missing without a package that the format needs, BadInput for a path that
    holds none or damaged data; the message names the file."""
    kind = kind or _kind(path)
    try:
        found = [one for one in READERS[kind](path) if len(one.actions)]
    except (OSError, LookupError, ValueError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path} cannot be read as {kind}: {words}.", "Restore it, or set source.format.") from error
    if not found:
        raise BadInput(f"{path} holds no episode.", "Give recorded data with actions.")
    widths = {one.actions.shape[1] for one in found}
    if len(widths) > 1:
        raise BadInput(f"The actions in {path} have {sorted(widths)} numbers.", "Give data of one robot.")
    return found


def _kind(path: Path) -> str:
    """Raises BadInput."""
    if not path.exists():
        raise BadInput(f"There is no {path}.", "Set source.path to recorded data.")
    looks = {
        "dataset": (path / "manifest.json").is_file(),
        "lerobot": (path / "meta" / "info.json").is_file(),
        "libero": path.suffix in (".hdf5", ".h5") or any(path.rglob("*.hdf5")) or any(path.rglob("*.h5")),
        "npz": path.suffix == ".npz" or any(path.glob("*.npz")),
    }
    for kind, it_is in looks.items():
        if it_is:
            return kind
    raise BadInput(f"{path} is no recorded data that is known.", f"Set source.format to one of: {', '.join(READERS)}.")


def _dataset(path: Path) -> Iterator[Recording]:
    """Record t has the action that led to it, and the chunk of that action."""
    from replay.config import ReplayConfig
    from replay.sources.dataset_source import DatasetSource

    source = DatasetSource(path, ReplayConfig(arena_bytes=0))
    try:
        names = {one.name for one in source.spec.fields} & {"action", "plan", "plan_step", "reward"}
        for key in sorted([*source.episodes("train"), *source.episodes("valid")]):
            arrays = source.episode(key, sorted(names)).arrays
            plan = (arrays["plan"][1:], arrays["plan_step"][1:]) if "plan" in names else None
            yield _recording(str(key), arrays["action"][1:], plan)
    finally:
        source.close()


def _lerobot(path: Path) -> Iterator[Recording]:
    """In exports of ours, actions have moved to the frame of their observation and chunks have not; the last frame is
    one after which nothing was done."""
    from replay.lerobot.files import read_episodes, read_info

    info = read_info(path)
    rows, wrong = read_episodes(path, info)
    if wrong:
        raise BadInput(f"{wrong[0]}.", "Restore the file.")
    ours = "distwm" in info
    shapes = {name: tuple(map(int, one["shape"])) for name, one in info["features"].items()}
    columns = ["action"] + [name for name in ("distwm.plan", "distwm.plan_step") if ours and name in shapes]
    tables: dict[str, dict[str, np.ndarray]] = {}
    for row in rows:
        if row.file not in tables:
            tables = {row.file: _columns(path, row.file, columns, shapes)}
        table = tables[row.file]
        mine = np.flatnonzero(table["episode_index"] == row.number)
        if len(mine) != row.length:
            raise BadInput(
                f"{path / row.file} has {len(mine)} frames of episode {row.number}, not {row.length}.", "Restore it."
            )
        actions = table["action"][mine]
        plan = (table["distwm.plan"][mine][1:], table["distwm.plan_step"][mine][1:]) if len(columns) > 2 else None
        yield _recording(f"episode-{row.number:06d}", actions[:-1] if ours else actions, plan)


def _columns(path: Path, file: str, names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    from replay.lerobot.format import Column
    from replay.lerobot.layout import inside
    from replay.lerobot.tables import to_numpy

    table = pq.read_table(inside(path, file), columns=["episode_index", *names])
    dtypes = dict.fromkeys(names, "float64") | {"episode_index": "int64", "distwm.plan_step": "int64"}
    whole = dict(shapes) | {"episode_index": (), "distwm.plan_step": ()}
    return {
        name: to_numpy(Column(name=name, dtype=dtypes[name], shape=whole[name]), table[name], whole[name])
        for name in ("episode_index", *names)
    }


def _libero(path: Path) -> Iterator[Recording]:
    try:
        import h5py
    except ImportError as error:
        raise Missing("HDF5 files need h5py.", "Run: pip install 'distwm[hdf5]'") from error
    files = sorted([*path.rglob("*.hdf5"), *path.rglob("*.h5")]) if path.is_dir() else [path]
    for file in files:
        with h5py.File(file, "r") as opened:
            for demo in sorted(opened["data"], key=_number):
                yield _recording(f"{file.stem}/{demo}", np.asarray(opened["data"][demo]["actions"]))


def _npz(path: Path) -> Iterator[Recording]:
    for file in sorted(path.glob("*.npz")) if path.is_dir() else [path]:
        with np.load(file, allow_pickle=False) as found:
            actions = found["actions"]
            ends = found["episode_ends"].tolist() if "episode_ends" in found else [len(actions)]
            plan = (found["plan"], found["plan_step"]) if "plan" in found else None
        if ends != sorted(set(ends)) or ends[-1] != len(actions):
            raise ValueError(f"episodes of {len(actions)} rows cannot end at {ends}")
        for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            part = None if plan is None else (plan[0][begin:end], plan[1][begin:end])
            yield _recording(f"{file.stem}/{number}", actions[begin:end], part)


def _recording(name: str, actions: np.ndarray, plan: tuple[np.ndarray, np.ndarray] | None = None) -> Recording:
    """`plan`: (T, H, A) and (T,), aligned with the actions. Raises ValueError."""
    actions = np.asarray(actions, np.float32)
    if actions.ndim != 2 or not np.isfinite(actions).all():
        raise ValueError(f"the actions of {name} have shape {actions.shape}, or are no numbers")
    chunks: dict[int, np.ndarray] = {}
    if plan is not None:
        chunks = {int(t): np.asarray(plan[0][t], np.float32) for t in np.flatnonzero(np.asarray(plan[1]) == 0)}
    return Recording(name=name, actions=actions, chunks=chunks)


def _number(demo: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", demo)
    return int(digits[0]) if digits else -1, demo


READERS: Mapping[str, Callable[[Path], Iterator[Any]]] = {
    "dataset": _dataset,
    "lerobot": _lerobot,
    "libero": _libero,
    "npz": _npz,
}
