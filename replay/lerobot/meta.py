"""What a LeRobot data set that we write says of itself: info.json, statistics, tasks and the table of episodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from replay.dataset.files import replace_file
from replay.dataset.format import identity
from replay.errors import BadInput
from replay.lerobot.format import CODEBASE, DATA_PATH, EPISODES_PATH, FILES_IN_CHUNK, INFO, STATS, TASKS, Column, place
from replay.lerobot.stats import Stats, merged

Row = dict[str, Any]  # an episode in meta/episodes


class Meta:
    """The totals over all finished files. info.json is written last: it says what counts."""

    def __init__(self, directory: Path, columns: Sequence[Column], fps: int, notes: Mapping[str, Any]) -> None:
        """`notes` (plain JSON values) tell this data set from others."""
        self.files, self.frames = 0, 0
        self.names: set[str] = set()  # of the episodes
        self.tasks: dict[str, int] = {}
        self._directory, self._columns, self._fps = directory, columns, fps
        self._notes: dict[str, Any] = json.loads(json.dumps(notes))
        self._stats: dict[str, Stats] = {}

    def load(self) -> bool:
        """Takes over what is there, if anything is. Raises BadInput if that is another data set."""
        path = self._directory / INFO
        if not path.is_file():
            return False
        info = json.loads(path.read_bytes())
        notes = {**info.get("distwm", {})}
        files = notes.pop("files", 0)
        there, wanted = _compared(notes, info["fps"]), _compared(self._notes, self._fps)
        if different := [key for key in wanted if there.get(key) != wanted[key]]:
            raise BadInput(
                f"{self._directory} holds another data set: its {different[0]} is {there.get(different[0])!r}, not "
                f"{wanted[different[0]]!r}.",
                "Give another directory.",
            )
        tasks = pq.read_table(self._directory / TASKS).to_pydict()
        self.tasks = dict(zip(tasks["task"], tasks["task_index"], strict=True))
        for number in range(files):
            self._account(pq.read_table(self._directory / EPISODES_PATH.format(**place(number))).to_pylist())
        return True

    def save(self, rows: Sequence[Row] = ()) -> None:
        """Adds a finished file, if there are rows. May raise OSError."""
        if rows:
            self._write_table(EPISODES_PATH.format(**place(self.files)), pa.Table.from_pylist([*rows]))
            self._account(rows)
        self._write_table(TASKS, _tasks_table(self.tasks))
        stats = {f: {name: value.tolist() for name, value in s.items()} for f, s in self._stats.items()}
        replace_file(self._directory / STATS, json.dumps(stats, indent=4).encode())
        replace_file(self._directory / INFO, json.dumps(self._info(), indent=4).encode())

    def _account(self, rows: Sequence[Row]) -> None:
        self.files += 1
        self.frames += sum(row["length"] for row in rows)
        self.names |= {row["distwm/name"] for row in rows}
        for row in rows:
            for feature, new in unpacked(row).items():
                self._stats[feature] = merged(self._stats[feature], new) if feature in self._stats else new

    def _info(self) -> dict[str, Any]:
        episodes = len(self.names)
        return {
            "codebase_version": CODEBASE,
            "robot_type": "unknown",
            "total_episodes": episodes,
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": FILES_IN_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self._fps,
            "splits": {"train": f"0:{episodes}"} if episodes else {},
            "data_path": DATA_PATH,
            "video_path": None,
            "features": {c.name: c.feature for c in self._columns},
            "distwm": {**self._notes, "files": self.files},
        }

    def _write_table(self, path: str, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="snappy", write_page_checksum=True)
        (self._directory / path).parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._directory / path, sink.getvalue().to_pybytes())


def _compared(notes: Mapping[str, Any], fps: int) -> dict[str, Any]:
    return {**notes, "fps": fps, "origin": identity(notes.get("origin", {}))}


def packed(feature: str, stats: Stats) -> Row:
    """The statistics of an episode as they stand in its row."""
    return {f"stats/{feature}/{name}": value.tolist() for name, value in stats.items()}


def unpacked(row: Row) -> dict[str, dict[str, np.ndarray]]:
    """Statistics by feature, of a row."""
    stats: dict[str, dict[str, np.ndarray]] = {}
    for path, value in row.items():
        if path.startswith("stats/"):
            _, feature, name = path.split("/")
            stats.setdefault(feature, {})[name] = np.array(value)
    return stats


def _tasks_table(tasks: Mapping[str, int]) -> pa.Table:
    """With the tasks as the index that pandas shall find in it."""
    table = pa.table({"task_index": pa.array([*tasks.values()], pa.int64()), "task": pa.array([*tasks], pa.string())})
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None}
        for name, (kind, numpy_type) in kinds.items()
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
