"""From the frames of a LeRobot episode to our records: exactly for data sets that we wrote, by rules for all others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from replay.check import DTYPES
from replay.dataset.episodes import Actor, NamedEpisode, digest_of
from replay.errors import BadInput
from replay.lerobot.files import EpisodeRow
from replay.lerobot.format import IMAGE_TYPE, POLICY_VERSION, SOURCE, Column, columns_of, is_shifted
from replay.lerobot.tables import BadColumn, decode_images, to_numpy
from replay.lerobot.video import VideoFile
from replay.schema import FLAGS, EpisodeKey, EpisodeSpec, FieldSpec

_log = logging.getLogger(__name__)


class Layout(Protocol):
    """How the columns of a data set become the fields of ours."""

    spec: EpisodeSpec

    def name(self, row: EpisodeRow) -> str:
        """Of an episode: the same whenever it is read."""
        ...

    def episode(self, row: EpisodeRow, frames: pa.Table) -> NamedEpisode:
        """Raises BadColumn, BadVideo or one of lerobot_files.ERRORS."""
        ...

    def close(self) -> None:
        """Ends what decodes videos."""
        ...


class OwnLayout:
    """Of what LeRobotWriter wrote: the same bits come back."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        """Raises BadInput if another version of this program wrote it."""
        notes = info["distwm"]
        if notes.get("version") != 1:
            raise BadInput(
                f"The data set has version {notes.get('version')!r} of our notes.", "Read it as it was made."
            )
        self.spec = EpisodeSpec(
            fields=tuple(
                FieldSpec(name=f["name"], shape=tuple(f["shape"]), dtype=f["dtype"], role=f["role"])
                for f in notes["spec"]
            )
        )

    def name(self, row: EpisodeRow) -> str:
        return str(row.notes["name"])

    def episode(self, row: EpisodeRow, frames: pa.Table) -> NamedEpisode:
        columns, arrays = columns_of(self.spec), {}
        for field in self.spec.fields:
            values = read_column(columns[field.name], frames, field.shape)
            arrays[field.name] = np.roll(values, 1, axis=0) if is_shifted(field) else values
        said = list(zip(frames[SOURCE].to_pylist(), frames[POLICY_VERSION].to_pylist(), strict=True))
        actors = [Actor(i, *said[i]) for i in range(len(said)) if i == 0 or said[i] != said[i - 1]]
        key = EpisodeKey(row.notes["stream"], row.notes["incarnation"], row.notes["episode"])
        episode = NamedEpisode(
            name=self.name(row), arrays=arrays, actors=tuple(actors), key=key, task=row.notes["task"]
        )
        if digest_of(episode) != row.notes["sha256"]:
            raise BadColumn("distwm/sha256", None, "the episode is not the one that was written")
        return episode

    def close(self) -> None:
        """Nothing to end."""


class ForeignLayout:
    """Of any other data set of version 3.

    A camera becomes the field of its name, or `image` if it is the only one; `observation.x` becomes `x`. Where there
    are rewards, an episode gets one more record with the last observation again, so that its last reward is not lost;
    without rewards they are zeros, and the last action, whose outcome was not recorded, is left out. An episode is
    terminal if `next.terminated` says so, or else `next.done` without `next.truncated`.
    """

    def __init__(self, directory: Path, info: Mapping[str, Any], tasks: Mapping[int, str], rename: Mapping[str, str]):
        """`rename` gives columns other field names; an empty one leaves the column out. Raises BadInput."""
        self._directory, self._features, self._fps = directory, info["features"], float(info["fps"])
        self._tasks = tasks
        self._videos: dict[str, VideoFile] = {}
        if unknown := sorted(rename.keys() - self._features.keys()):
            raise BadInput(f"There is no column {unknown[0]!r}.", f"Choose of: {', '.join(sorted(self._features))}.")
        if "action" not in self._features:
            raise BadInput(f"{directory} has no column 'action'.", "A world model needs actions: give other data.")
        names = field_names(self._features) | dict(rename)
        self._fields = {column: _field(name, self._features[column]) for column, name in names.items() if name}
        taken = [f.name for f in self._fields.values()] + ["action", "reward", *FLAGS]
        if twice := sorted({n for n in taken if taken.count(n) > 1}):
            raise BadInput(
                f"Two columns would be the field {twice[0]!r}.", "Give --rename COLUMN=NAME for one of them."
            )
        self._action = _field("action", self._features["action"], role="action")
        self._rewards = "next.reward" in self._features
        reward = self._features["next.reward"]["dtype"] if self._rewards else "float32"
        flags = (FieldSpec(name=n, shape=(), dtype="bool", role="flag") for n in FLAGS)
        last = FieldSpec(name="reward", shape=(), dtype=reward, role="reward")
        self.spec = EpisodeSpec(fields=(*self._fields.values(), self._action, last, *flags))
        self._tell()

    def name(self, row: EpisodeRow) -> str:
        return f"episode-{row.number:06d}"

    def episode(self, row: EpisodeRow, frames: pa.Table) -> NamedEpisode:
        more = int(self._rewards)
        steps = row.length + more
        arrays = {}
        for column, field in self._fields.items():
            values = self._observations(column, field, row, frames)
            arrays[field.name] = np.concatenate([values, values[-1:]]) if more else values
        arrays["action"] = _later(self._read("action", self._action, frames), steps)
        reward = self.spec["reward"]
        rewards = self._read("next.reward", reward, frames) if more else np.zeros(row.length, reward.dtype)
        arrays["reward"] = _later(rewards, steps)
        arrays |= {name: np.zeros(steps, bool) for name in FLAGS}
        arrays["is_first"][0] = arrays["is_last"][-1] = True
        arrays["is_terminal"][-1] = self._is_terminal(frames)
        task = "; ".join(row.tasks) or self._tasks.get(_last(frames, "task_index"), "")
        return NamedEpisode(name=self.name(row), arrays=arrays, actors=(Actor(0, "recorded", 0),), task=task)

    def close(self) -> None:
        for video in self._videos.values():
            video.close()
        self._videos.clear()

    def _observations(self, column: str, field: FieldSpec, row: EpisodeRow, frames: pa.Table) -> np.ndarray:
        if self._features[column]["dtype"] != "video":
            return self._read(column, field, frames)
        file, begin_s = row.videos[column]
        video = self._videos.get(column)
        path = inside(self._directory, file)
        if video is None or video.path != path:
            if video is not None:
                video.close()
            video = self._videos[column] = VideoFile(path, self._fps, field.shape)
        return video.read(begin_s, row.length)

    def _read(self, column: str, field: FieldSpec, frames: pa.Table) -> np.ndarray:
        kind = "image" if self._features[column]["dtype"] == "image" else "array"
        place = Column(name=column, dtype=field.dtype, shape=field.shape, kind=kind)  # type: ignore[arg-type]
        return read_column(place, frames, field.shape, self._directory)

    def _is_terminal(self, frames: pa.Table) -> bool:
        if "next.terminated" in frames.column_names:
            return bool(_last(frames, "next.terminated"))
        return bool(_last(frames, "next.done")) and not _last(frames, "next.truncated")

    def _tell(self) -> None:
        used = {*self._fields, "action", "next.reward", "next.done", "next.truncated", "next.terminated"}
        ours = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
        if dropped := sorted(self._features.keys() - used - ours):
            _log.warning("Columns that are left out: %s.", ", ".join(dropped))
        if not self._rewards:
            _log.warning("There is no column 'next.reward': all rewards are zeros.")


def field_names(features: Mapping[str, Any]) -> dict[str, str]:
    """Column -> field, of the observations that we can hold."""
    usable = {name: f for name, f in features.items() if name.startswith("observation.") and _is_usable(f)}
    cameras = [name for name, f in usable.items() if f["dtype"] in ("image", "video")]
    short = {name: name.removeprefix("observation.").removeprefix("images.").replace(".", "_") for name in usable}
    return short | ({cameras[0]: "image"} if len(cameras) == 1 else {})


def read_column(column: Column, frames: pa.Table, shape: tuple[int, ...], directory: Path | None = None) -> np.ndarray:
    """(T, *shape) values of a column. Pictures may be files in `directory`. Raises BadColumn."""
    if column.name not in frames.column_names:
        raise BadColumn(column.name, None, "it is missing")
    data = frames[column.name]
    if column.kind != "image":
        return to_numpy(column, data, shape)
    if not pa.types.is_struct(data.type):
        raise BadColumn(column.name, None, f"it holds {data.type}, not {IMAGE_TYPE}")
    cells = enumerate(data.to_pylist())
    return decode_images(column.name, [_content(column.name, row, cell, directory) for row, cell in cells], shape)


def inside(directory: Path, file: str) -> Path:
    """A file of the data set. Raises ValueError for one elsewhere."""
    path = (directory / file).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise ValueError(f"{file} lies outside the data set")
    return path


def _content(column: str, row: int, cell: Any, directory: Path | None) -> bytes:
    content, path = (cell.get("bytes"), cell.get("path")) if cell else (None, None)
    if content is None and path and directory:
        try:
            content = inside(directory, path).read_bytes()
        except (OSError, ValueError) as error:
            raise BadColumn(column, row, f"its picture cannot be read ({error})") from error
    if content is None:
        raise BadColumn(column, row, "there is no picture")
    return content


def _is_usable(feature: Mapping[str, Any]) -> bool:
    notes = {**(feature.get("info") or {}), **(feature.get("video_info") or {})}
    if notes.get("is_depth_map") or notes.get("video.is_depth_map"):
        return False
    return feature["dtype"] in ("image", "video") or feature["dtype"] in DTYPES


def _field(name: str, feature: Mapping[str, Any], role: Any = "observation") -> FieldSpec:
    shape, dtype = tuple(int(n) for n in feature["shape"]), feature["dtype"]
    if dtype in ("image", "video"):
        first = str((feature.get("names") or [""])[0])
        if first.startswith("c") or (shape[0] in (1, 3) and shape[-1] not in (1, 3)):
            shape = (*shape[1:], shape[0])
        dtype = "uint8"
    elif dtype not in DTYPES:
        raise BadInput(f"Field {name!r} would be of {dtype!r}.", f"Leave it out, or make it one of {sorted(DTYPES)}.")
    return FieldSpec(name=name, shape=shape, dtype=dtype, role=role)


def _later(values: np.ndarray, steps: int) -> np.ndarray:
    """What led to each record: zeros first, then the values of the frames before."""
    return np.concatenate([np.zeros_like(values[:1]), values])[:steps]


def _last(frames: pa.Table, column: str) -> Any:
    """The value in the last frame; None if there is no such column."""
    value = frames[column][-1].as_py() if column in frames.column_names else None
    return value[0] if isinstance(value, list) and len(value) == 1 else value
