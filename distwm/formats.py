"""The kinds of recorded data that can be read. Another one is a line here and a `Reader`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from actors.data.libero_hdf5 import LiberoReader
from actors.data.minerl import open_minerl
from actors.data.options import ReadOptions
from actors.data.video import open_video
from actors.data.vpt import open_vpt
from replay.dataset.episodes import NamedEpisode, Reader
from replay.errors import BadInput
from replay.lerobot.reader import LeRobotReader


class NamingReader(Reader, Protocol):
    """Also finds single episodes, to compare."""

    def named(self, name: str) -> NamedEpisode:
        """Raises KeyError if there is none."""
        ...


Opener = Callable[[Path, Mapping[str, str], ReadOptions], NamingReader]  # a path, other names for fields, choices

READERS: Mapping[str, Opener] = {
    "lerobot": lambda path, rename, _: LeRobotReader(path, rename),
    "libero": LiberoReader,
    "minerl": open_minerl,
    "video": open_video,
    "vpt": open_vpt,
}


def reader_of(kind: str, path: Path, rename: Mapping[str, str], options: ReadOptions) -> NamingReader:
    """Raises BadInput if there is no such format, or none of its data at `path`."""
    if kind not in READERS:
        raise BadInput(f"There is no format {kind!r}.", f"Use one of: {', '.join(READERS)}.")
    return READERS[kind](path, rename, options)
