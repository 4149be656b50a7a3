"""Recorded data behind the interface of the replay: bodies are read from the files of the shards."""

from __future__ import annotations

import logging
import os
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path

from replay.arena.arena import Arena
from replay.arena.shared_file import private_directory
from replay.codec import checksum_of
from replay.config import ReplayConfig
from replay.dataset.format import MANIFEST, Manifest, ShardFile, damaged, read_list, read_manifest
from replay.sampling.index import EpisodeIndex
from replay.schema import EpisodeKey
from replay.sources.chunk_source import ChunkSource

_log = logging.getLogger(__name__)


class DatasetSource(ChunkSource):
    """Implements `Source` on a data set. Shards that a writer adds appear with `refresh`."""

    def __init__(self, directory: Path, config: ReplayConfig | None = None, *, skip_damaged: bool = False) -> None:
        """Of `config`, arena, valid_share and sampling matter here.

        Raises BadInput if there is no data set, DamagedData if its manifest or a list is damaged; a damaged body is
        found when it is drawn: that raises DamagedData, or with `skip_damaged` its episode ends in front of it.
        """
        config = config or ReplayConfig()
        self.directory = Path(directory).absolute()
        self.manifest = read_manifest(self.directory)
        self._skip_damaged = skip_damaged
        self._labels: dict[EpisodeKey, tuple[str, str]] = {}  # name and task
        self._shard, self._offset, self._length = array("i"), array("q"), array("i")  # of the chunks, in their order
        spec, index = self.manifest.spec, EpisodeIndex(config.valid_share, config.sampling)
        shared = private_directory(config.arena_dir) if config.arena_bytes else None
        arena = Arena(shared, arena_name(self.manifest), spec, config.arena_bytes)
        super().__init__(spec, index, arena, run=self.manifest.name)
        self._stamp, self._shards = 0, 0  # of the manifest as it was read; shards in the index
        self.refresh()

    def labels(self, key: EpisodeKey) -> tuple[str, str]:
        """Name and task of an episode. Raises KeyError."""
        with self._lock:
            return self._labels[key]

    def _refresh(self) -> None:
        path = self.directory / MANIFEST
        stamp = path.stat().st_mtime_ns if path.is_file() else 0
        if not stamp or stamp != self._stamp:
            self.manifest, self._stamp = read_manifest(self.directory), stamp
        for shard in self.manifest.shards[self._shards :]:
            self._add(shard)
            self._shards += 1

    def _add(self, shard: ShardFile) -> None:
        for episode in read_list(self.directory, shard):
            self._labels[episode.key] = episode.name, episode.task
            for chunk in episode.chunks:
                self._shard.append(shard.number)
                self._offset.append(chunk.offset)
                self._length.append(chunk.length)
                self._index.add(0, len(self._shard), chunk.entry)

    def _bodies(self, refs: Sequence[int]) -> list[bytes | None]:
        return [self._body(ref) for ref in refs]

    def _body(self, ref: int) -> bytes | None:
        number = self._index.cursor_of(ref) - 1
        path = self.directory / self.manifest.shards[self._shard[number]].file
        offset, length = self._offset[number], self._length[number]
        body = _read(path, offset, length)
        if len(body) == length and checksum_of(body) == zlib.crc32(memoryview(body)[8:]):
            return body
        error = damaged(path, offset, "a chunk is cut short" if len(body) < length else "a checksum is wrong")
        if not self._skip_damaged:
            raise error
        _log.warning("A chunk is left out. %s", error.message)
        self.rejected += 1
        return None


def arena_name(manifest: Manifest) -> str:
    """What the arena of a data set is called."""
    return f"dataset-{manifest.name}"


def _read(path: Path, offset: int, length: int) -> bytes:
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise damaged(path, offset, f"it cannot be read ({error.strerror})") from error
    try:
        return os.pread(number, length, offset)
    finally:
        os.close(number)
