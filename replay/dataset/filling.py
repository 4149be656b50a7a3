"""The shard that a writer is filling: a temporary file that becomes part of the data set all at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from replay.dataset.files import replace_file
from replay.dataset.format import ShardFile, StoredChunk, StoredEpisode, list_text
from replay.schema import Entry, EpisodeKey


class OpenShard:
    """Takes whole episodes. Every method may raise OSError; then the shard is to be abandoned."""

    def __init__(self, directory: Path, number: int) -> None:
        self.episodes: list[StoredEpisode] = []
        self.bytes = 0
        self._directory, self._number = directory, number
        self._temporary = directory / f".shard-{number:05d}.bin.tmp"
        self._file = self._temporary.open("wb")
        self._digest = hashlib.sha256()

    def append(self, name: str, key: EpisodeKey, task: str, bodies: Iterable[tuple[Entry, bytes]]) -> StoredEpisode:
        """Writes an episode; if that is interrupted midway, it is as if it had never begun."""
        offset, digest, chunks = self.bytes, self._digest.copy(), []
        try:
            for entry, body in bodies:
                self._file.write(body)
                digest.update(body)
                chunks.append(StoredChunk(entry=entry, offset=offset, length=len(body)))
                offset += len(body)
        except BaseException:
            self._file.seek(self.bytes)
            self._file.truncate()
            raise
        self.bytes, self._digest = offset, digest
        self.episodes.append(StoredEpisode(name=name, key=key, task=task, chunks=tuple(chunks)))
        return self.episodes[-1]

    def finish(self) -> ShardFile:
        """Puts the files of the shard on the disk for good; they count once the manifest names them."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        text = list_text(self.episodes)
        shard = ShardFile(
            number=self._number,
            sha256=self._digest.hexdigest(),
            bytes=self.bytes,
            list_sha256=hashlib.sha256(text).hexdigest(),
            episodes=len(self.episodes),
            steps=sum(e.steps for e in self.episodes),
        )
        self._temporary.replace(self._directory / shard.file)
        replace_file(self._directory / shard.list_file, text)
        return shard

    def abandon(self) -> None:
        """Frees what it can."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)
