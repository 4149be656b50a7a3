"""Reads LeRobot data sets of version 3: ours exactly, others by rules. What is damaged is named; the rest is read."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from replay.check import check_spec
from replay.dataset.episodes import NamedEpisode, Unreadable, check_episode
from replay.dataset.format import PROVENANCE
from replay.errors import BadInput
from replay.lerobot.files import ERRORS, EpisodeRow, FrameFile, read_episodes, read_info, read_tasks
from replay.lerobot.layout import ForeignLayout, Layout, OwnLayout, inside
from replay.lerobot.tables import BadColumn
from replay.lerobot.video import BadVideo


class LeRobotReader:
    """Implements `Reader`. One episode and one row group of frames are in memory at a time."""

    def __init__(self, directory: Path, rename: Mapping[str, str] | None = None) -> None:
        """`rename` gives columns of a foreign data set other field names, see ForeignLayout.

        Raises BadInput if there is no data set, or none that we can use.
        """
        self.directory = Path(directory).resolve()
        info = read_info(self.directory)
        tasks = read_tasks(self.directory)
        rows, self._wrong = read_episodes(self.directory, info)
        try:
            self._layout: Layout = (
                OwnLayout(info) if "distwm" in info else ForeignLayout(self.directory, info, tasks, rename or {})
            )
        except ERRORS as error:
            raise BadInput(f"{self.directory}/meta/info.json cannot be used: {error}.", "Restore the file.") from error
        self.spec = self._layout.spec
        check_spec(self.spec)
        try:
            self._rows = {self._layout.name(row): row for row in rows}
        except KeyError as error:
            raise BadInput(f"{self.directory}/meta/episodes lacks {error}.", "Restore the file.") from error
        self._first: dict[str, int] = {}  # file -> number of its first frame
        for row in rows:
            self._first[row.file] = min(self._first.get(row.file, row.begin), row.begin)
        self._frames: FrameFile | None = None
        self.episodes = len(self._rows)
        self.origin: dict[str, Any] = {
            "format": "lerobot",
            "path": str(self.directory),
            "fps": info["fps"],
            "robot_type": info.get("robot_type"),
            "tasks": [tasks[number] for number in sorted(tasks)],
            "rename": dict(rename or {}),
        }
        if said := info.get("distwm", {}).get("origin", {}).get(PROVENANCE):
            self.origin[PROVENANCE] = said

    def read(self, skip: Container[str] = ()) -> Iterator[NamedEpisode | Unreadable]:
        """Every episode whose name is not in `skip`, in the order of their numbers."""
        for reason in self._wrong:
            yield Unreadable(name=reason.partition(":")[0], reason=reason)
        for name, row in self._rows.items():
            if name not in skip:
                yield self._episode(name, row)

    def named(self, name: str) -> NamedEpisode:
        """One episode. Raises KeyError if there is none, BadInput if it is damaged."""
        found = self._episode(name, self._rows[name])
        if isinstance(found, Unreadable):
            raise BadInput(f"{found.reason}.", "Restore the file.")
        return found

    def close(self) -> None:
        """Lets go of what is open."""
        self._layout.close()
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    def _open(self, row: EpisodeRow) -> FrameFile:
        """The frames' file. It stays open until another one is wanted."""
        path = inside(self.directory, row.file)
        if self._frames is None or self._frames.path != path:
            if self._frames is not None:
                self._frames.close()
                self._frames = None
            self._frames = FrameFile(path)
        return self._frames

    def _episode(self, name: str, row: EpisodeRow) -> NamedEpisode | Unreadable:
        path, begin = self.directory / row.file, row.begin - self._first[row.file]
        where = f"{path}, rows {begin} to {begin + row.length - 1}"
        try:
            table = self._open(row).read(begin, begin + row.length)
            _check_frames(table, row)
            episode = self._layout.episode(row, table)
            check_episode(self.spec, episode)
            return episode
        except BadColumn as error:
            place = where if error.row is None else f"{path}, row {begin + error.row}"
            return Unreadable(name=name, reason=f"{place}: {error}")
        except BadVideo as error:
            return Unreadable(name=name, reason=str(error))
        except BadInput as error:
            return Unreadable(name=name, reason=f"{where}: {error.message.rstrip('.')}")
        except ERRORS as error:
            return Unreadable(name=name, reason=f"{where}: {brief(error)}")


def brief(error: Exception) -> str:
    """One line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _check_frames(table: pa.Table, row: EpisodeRow) -> None:
    """Raises BadColumn if these are the frames of another episode."""
    for column, wanted in (
        ("episode_index", np.full(row.length, row.number)),
        ("frame_index", np.arange(row.length)),
    ):
        found = np.asarray(table[column].to_numpy())
        if len(wrong := np.flatnonzero(found != wanted)):
            at = wrong[0]
            raise BadColumn(column, int(at), f"it is {found[at]}, not {wanted[at]}")
