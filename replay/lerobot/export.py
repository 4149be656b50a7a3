"""Writes a LeRobot data set, file after file. What info.json counts is whole at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from replay.check import check_spec
from replay.dataset.episodes import NamedEpisode, check_episode, digest_of
from replay.dataset.files import LOCK, DirectoryWriter
from replay.errors import BadInput
from replay.lerobot.format import (
    DATA_PATH,
    EPISODES_PATH,
    POLICY_VERSION,
    SOURCE,
    columns_of,
    extra_columns,
    is_shifted,
    place,
    schema_of,
)
from replay.lerobot.meta import Meta, Row, packed
from replay.lerobot.stats import array_stats, image_stats
from replay.lerobot.tables import to_arrow
from replay.schema import EpisodeSpec


class LeRobotWriter(DirectoryWriter):
    """Adds episodes to a directory, which it makes if need be. One writer at a time; not for several threads at once.

    Episodes that are there already are passed over. A kill costs the file that is not finished: `max_file_bytes` at
    most, or `max_file_rows` frames.
    """

    def __init__(
        self,
        directory: Path,
        spec: EpisodeSpec,
        *,
        fps: int,
        task: str = "",
        origin: Mapping[str, Any] | None = None,
        max_file_bytes: int = 100 * 2**20,
        max_file_rows: int = 1_000_000,
    ) -> None:
        """`task` says in words what episodes do that say nothing themselves.

        Raises BadInput for a spec that LeRobot cannot hold, or if the directory holds something else; TryAgain if
        another process writes there.
        """
        check_spec(spec)
        if fps < 1:
            raise BadInput(f"fps is {fps}.", "Give 1 or more frames a second.")
        self._spec, self._fps, self._task = spec, fps, task
        self._max_file_bytes, self._max_file_rows = max_file_bytes, max_file_rows
        self._columns = columns_of(spec)
        self._all = (*self._columns.values(), *extra_columns())
        features = {"info": {"features": {c.name: c.hub_feature for c in self._all}}}
        self._schema = schema_of(self._all).with_metadata({"huggingface": json.dumps(features)})
        notes = {"version": 1, "spec": [asdict(f) for f in spec.fields], "task": task, "origin": dict(origin or {})}
        notes["columns"] = {field: column.name for field, column in self._columns.items()}
        self._meta = Meta(Path(directory), self._all, fps, notes)
        self._rows: list[Row] = []  # of the file that is being written: its episodes
        self._names: set[str] = set()  # theirs
        self._frames = 0  # theirs
        self._file: tuple[IO[bytes], pq.ParquetWriter] | None = None
        super().__init__(directory)

    @property
    def names(self) -> Set[str]:
        """Of the episodes that are here."""
        return self._meta.names | self._names

    @property
    def steps(self) -> int:
        """Of the episodes that are here, in frames."""
        return self._meta.frames + self._frames

    def write(self, episode: NamedEpisode) -> bool:
        """Takes an episode; False if one of its name is here. It is safe after `commit`, or when its file is full.

        Raises BadInput, naming episode and field, for one that does not fit the spec; and if the disk fails.
        """
        if episode.name in self._names or episode.name in self._meta.names:
            return False
        check_episode(self._spec, episode)
        task = episode.task or self._task
        row = self._row(episode, task)
        values = self._values(episode, row, self._meta.tasks.setdefault(task, len(self._meta.tasks)))
        table = pa.Table.from_arrays([to_arrow(c, values[c.name]) for c in self._all], schema=self._schema)
        numbers = {c.name: values[c.name] for c in self._all if c.kind == "array" and c.dtype != "string"}
        pictures = {c.name: image_stats(values[c.name]) for c in self._all if c.kind == "image"}
        for name, stats in (pictures | array_stats(numbers)).items():
            row |= packed(name, stats)
        with self._writing(BaseException):  # half an episode may be in the file
            file, parquet = self._file = self._file or self._begin_file()
            parquet.write_table(table, row_group_size=len(table))
            self._rows.append(row)
            self._names.add(episode.name)
            self._frames += episode.steps
        if file.tell() >= self._max_file_bytes or self._frames >= self._max_file_rows:
            self.commit()
        return True

    def commit(self) -> None:
        """Finishes the current file, and the data set with it."""
        if self._file is None or not self._rows:
            return
        with self._writing(BaseException):
            file, parquet = self._file
            parquet.close()
            file.flush()
            os.fsync(file.fileno())
            file.close()
            Path(file.name).replace(self._path(DATA_PATH))
            self._meta.save(self._rows)
        self._rows, self._names, self._frames, self._file = [], set(), 0, None

    def _go_on(self) -> None:
        """Takes over what is there, and clears away the file that a killed writer left."""
        if not self._meta.load():
            if strange := sorted({p.name for p in self.directory.iterdir()} - {LOCK, "meta", "data"}):
                raise BadInput(f"{self.directory} is not empty: there is {strange[0]!r}.", "Give an empty directory.")
            with self._writing():
                (self.directory / "meta").mkdir(exist_ok=True)
                self._meta.save()
        for template in (DATA_PATH, EPISODES_PATH):
            self._path(template).unlink(missing_ok=True)

    def _begin_file(self) -> tuple[IO[bytes], pq.ParquetWriter]:
        path = self._path(DATA_PATH)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f".{path.name}.tmp").open("wb")
        return file, pq.ParquetWriter(file, self._schema, compression="snappy", write_page_checksum=True)

    def _path(self, template: str) -> Path:
        """Of the current file."""
        return self.directory / template.format(**place(self._meta.files))

    def _row(self, episode: NamedEpisode, task: str) -> Row:
        """What meta/episodes says, but for the statistics."""
        if (key := episode.key) is None:
            raise BadInput(f"Episode {episode.name!r} has no key.", "Export from a replay or from recorded data.")
        where, begin = place(self._meta.files), self.steps
        return {
            "episode_index": len(self._meta.names) + len(self._names),
            "tasks": [task],
            "length": episode.steps,
            **{f"data/{name}": number for name, number in where.items()},
            "dataset_from_index": begin,
            "dataset_to_index": begin + episode.steps,
            **{f"meta/episodes/{name}": number for name, number in where.items()},
            "distwm/name": episode.name,
            "distwm/task": episode.task,
            "distwm/stream": key.stream,
            "distwm/incarnation": key.incarnation,
            "distwm/episode": key.episode,
            "distwm/sha256": digest_of(episode),
        }

    def _values(self, episode: NamedEpisode, row: Row, task: int) -> dict[str, np.ndarray]:
        """Every column of the episode, by name."""
        steps, number = episode.steps, np.arange(episode.steps, dtype=np.int64)
        values = {}
        for field in self._spec.fields:
            array = episode.arrays[field.name]
            values[self._columns[field.name].name] = np.roll(array, -1, axis=0) if is_shifted(field) else array
        ends = episode.arrays.get("is_last", np.zeros(steps, bool))
        acting = np.searchsorted([a.first_step for a in episode.actors], number, side="right") - 1
        return values | {
            "next.done": np.append(ends[1:], ends[-1:]),
            SOURCE: np.array([a.source for a in episode.actors], object)[acting],
            POLICY_VERSION: np.array([a.policy_version for a in episode.actors], np.int64)[acting],
            "timestamp": (number / self._fps).astype(np.float32),
            "frame_index": number,
            "episode_index": np.full(steps, row["episode_index"], np.int64),
            "index": number + row["dataset_from_index"],
            "task_index": np.full(steps, task, np.int64),
        }

    def _abandon(self) -> None:
        opened, self._file = self._file, None
        self._rows, self._names, self._frames = [], set(), 0
        if opened is not None:
            file, parquet = opened
            with suppress(OSError, pa.ArrowException, ValueError):
                parquet.close()
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                Path(file.name).unlink(missing_ok=True)
