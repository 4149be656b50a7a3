"""The kinds of recorded data that can be read. Another one is a line here and a `Reader`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from replay.dataset.episodes import NamedEpisode, Reader
from replay.errors import BadInput
from replay.lerobot.reader import LeRobotReader


class NamingReader(Reader, Protocol):
    """Also finds single episodes, to compare."""

    def named(self, name: str) -> NamedEpisode:
        """Raises KeyError if there is none."""
        ...


Opener = Callable[[Path, Mapping[str, str]], NamingReader]  # a path, and other names for fields

READERS: Mapping[str, Opener] = {"lerobot": LeRobotReader}


def reader_of(kind: str, path: Path, rename: Mapping[str, str]) -> NamingReader:
    """Raises BadInput if there is no such format, or none of its data at `path`."""
    if kind not in READERS:
        raise BadInput(f"There is no format {kind!r}.", f"Use one of: {', '.join(READERS)}.")
    return READERS[kind](path, rename)
