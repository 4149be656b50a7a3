"""Reads the files of a LeRobot data set: info, episodes and tasks at once, frames a row group at a time."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from replay.errors import BadInput
from replay.lerobot.format import INFO, TASKS

# What a file raises that is not what it should be.
ERRORS = (OSError, pa.ArrowException, LookupError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRow:
    """What meta/episodes says of an episode. `place` and `begin` (seconds) are those of its videos, by column."""

    number: int
    length: int
    begin: int  # its first frame, counted over the data set
    file: str
    tasks: tuple[str, ...] = ()
    videos: Mapping[str, tuple[str, float]] = field(default_factory=dict)  # file, seconds to its first frame
    notes: Mapping[str, Any] = field(default_factory=dict)  # ours


def read_info(directory: Path) -> dict[str, Any]:
    """info.json. Raises BadInput if it is not that of a data set of version 3."""
    path = directory / INFO
    try:
        info = json.loads(path.read_bytes())
        version, features = str(info["codebase_version"]), info["features"]
        whole = float(info["fps"]) > 0 and all("dtype" in f and "shape" in f for f in features.values())
    except FileNotFoundError as error:
        raise BadInput(f"{directory} is no LeRobot data set: there is no {INFO}.", "Give its directory.") from error
    except ERRORS as error:
        raise BadInput(f"{path} cannot be read: {error}.", "Restore the file.") from error
    if not version.startswith("v3.") or not whole:
        raise BadInput(
            f"{path} is of version {version}; this program reads v3.0.",
            "Convert it: python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 (of lerobot 0.4).",
        )
    return info


def read_episodes(directory: Path, info: Mapping[str, Any]) -> tuple[list[EpisodeRow], list[str]]:
    """The episodes in order, and what is wrong with files of theirs that cannot be read."""
    rows: list[EpisodeRow] = []
    wrong = []
    for path in sorted((directory / "meta/episodes").glob("*/*.parquet")):
        try:
            table = pq.ParquetFile(path)
            names = [n for n in table.schema_arrow.names if not n.startswith("stats/")]
            rows += [_row(row, info) for row in table.read(columns=names).to_pylist()]
        except ERRORS as error:
            wrong.append(f"{path}: {_brief(error)}")
    return sorted(rows, key=lambda row: row.number), wrong


def read_tasks(directory: Path) -> dict[int, str]:
    """The tasks in words, by number; nothing if the file is not there. Raises BadInput for a damaged one."""
    path = directory / TASKS
    try:
        table = pq.read_table(path)
        words = next(
            table[name]
            for name in table.column_names
            if pa.types.is_string(table[name].type) or pa.types.is_large_string(table[name].type)
        )
        return dict(zip(table["task_index"].to_pylist(), words.to_pylist(), strict=True))
    except (FileNotFoundError, StopIteration):
        return {}
    except ERRORS as error:
        raise BadInput(f"{path} cannot be read: {_brief(error)}.", "Restore the file.") from error


class FrameFile:
    """The frames of one data file. Keeps one row group in memory."""

    def __init__(self, path: Path) -> None:
        """Raises one of ERRORS."""
        self.path = path
        self._file = pq.ParquetFile(path, page_checksum_verification=True)
        ends, total = [], 0
        for number in range(self._file.num_row_groups):
            total += self._file.metadata.row_group(number).num_rows
            ends.append(total)
        self._ends, self.rows = ends, total
        self._held: tuple[int, pa.Table] | None = None

    @property
    def columns(self) -> list[str]:
        return self._file.schema_arrow.names

    def read(self, begin: int, end: int) -> pa.Table:
        """Rows [begin, end). Raises one of ERRORS."""
        if not 0 <= begin <= end <= self.rows:
            raise ValueError(f"there are {self.rows} rows, and rows {begin} to {end} are wanted")
        return pa.concat_tables(self._parts(begin, end))

    def close(self) -> None:
        self._file.close()

    def _parts(self, begin: int, end: int) -> Iterator[pa.Table]:
        while begin < end:
            group = bisect_right(self._ends, begin)
            first = self._ends[group] - self._file.metadata.row_group(group).num_rows
            if self._held is None or self._held[0] != group:
                self._held = group, self._file.read_row_group(group)
            last = min(end, self._ends[group])
            yield self._held[1].slice(begin - first, last - begin)
            begin = last


def _row(row: Mapping[str, Any], info: Mapping[str, Any]) -> EpisodeRow:
    videos = {}
    for name, feature in info["features"].items():
        if feature["dtype"] == "video":
            place = _place(row, f"videos/{name}/")
            path = info["video_path"].format(video_key=name, **place)
            videos[name] = (path, float(row[f"videos/{name}/from_timestamp"]))
    return EpisodeRow(
        number=int(row["episode_index"]),
        length=int(row["length"]),
        begin=int(row["dataset_from_index"]),
        file=info["data_path"].format(**_place(row, "data/")),
        tasks=tuple(row.get("tasks") or ()),
        videos=videos,
        notes={name.removeprefix("distwm/"): value for name, value in row.items() if name.startswith("distwm/")},
    )


def _place(row: Mapping[str, Any], prefix: str) -> dict[str, int]:
    return {name: int(row[prefix + name]) for name in ("chunk_index", "file_index")}


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
