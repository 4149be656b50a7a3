"""Writes recorded data, shard after shard. A kill at any moment costs the shard that is not finished, nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from replay.check import check_spec
from replay.codec import checksum_of, encode
from replay.config import Codec
from replay.dataset.episodes import Actor, NamedEpisode, check_episode
from replay.dataset.files import LOCK, DirectoryWriter
from replay.dataset.filling import OpenShard
from replay.dataset.format import (
    MANIFEST,
    Manifest,
    StoredEpisode,
    identity,
    is_dataset,
    read_list,
    read_manifest,
    write_manifest,
)
from replay.errors import BadInput
from replay.schema import Chunk, ChunkId, Entry, EpisodeKey, EpisodeSpec

_MAX_CHUNK_BYTES = 2**26  # raw: large frames make shorter chunks
_OURS = re.compile(rf"{re.escape(LOCK)}|\.?(manifest\.json|shard-\d{{5,}}\.(bin|json))(\.tmp)?")


class DatasetWriter(DirectoryWriter):
    """Adds episodes to a directory, which it makes if need be. One writer at a time; not for several threads at once.

    Nothing is kept in memory but one episode and the names of all. Episodes that are there already are passed over, so
    whoever was interrupted gives all of them again.
    """

    def __init__(
        self,
        directory: Path,
        spec: EpisodeSpec,
        *,
        name: str,
        origin: Mapping[str, Any] | None = None,
        codec: Codec = "zstd",
        chunk_steps: int = 64,
        shard_bytes: int = 2**27,
    ) -> None:
        """`shard_bytes` is about what an interruption can cost. `origin` (plain JSON values) goes into the manifest.

        Raises BadInput if the directory holds something else or another data set, TryAgain if another writer is in it.
        """
        check_spec(spec)
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise BadInput(f"The data set is called {name!r}.", "Use letters, digits, dot, dash and underscore alone.")
        step_bytes = sum(np.dtype(f.dtype).itemsize * math.prod(f.shape) for f in spec.fields)
        self._codec, self._shard_bytes = codec, shard_bytes
        self._chunk_steps = max(1, min(chunk_steps, _MAX_CHUNK_BYTES // step_bytes))
        self._manifest = Manifest(name=name, spec=spec, origin=json.loads(json.dumps(origin or {})))
        self._names: set[str] = set()
        self._lives: dict[tuple[str, int], tuple[int, int]] = {}  # life -> its newest episode and chunk
        self._shard: OpenShard | None = None
        self._finished_lives = self._lives  # as they were before the open shard
        super().__init__(directory)

    @property
    def names(self) -> Set[str]:
        """Of the episodes that are here."""
        return self._names

    @property
    def steps(self) -> int:
        """Of the episodes that are here, in records."""
        return self._manifest.steps + (sum(e.steps for e in self._shard.episodes) if self._shard else 0)

    def add(
        self,
        name: str,
        arrays: Mapping[str, np.ndarray],
        *,
        source: str = "recorded",
        policy_version: int = 0,
        key: EpisodeKey | None = None,
        task: str = "",
    ) -> bool:
        """`write` for an episode in which one source acts."""
        actors = (Actor(0, source, policy_version),)
        return self.write(NamedEpisode(name=name, arrays=arrays, actors=actors, key=key, task=task))

    def write(self, episode: NamedEpisode) -> bool:
        """Takes an episode; False if one of its name is here. It is safe after `commit`, or when its shard is full.

        An index takes the episodes of a life in their order alone. So one that comes late gets another key.

        Raises BadInput, naming episode and field, for one that does not fit the spec; and if the disk fails: then the
        shard is lost that was not finished.
        """
        if episode.name in self._names:
            return False
        check_episode(self._manifest.spec, episode)
        key = episode.key
        if key is None or key.episode <= self._newest(key.stream, key.incarnation)[0]:
            stream = f"recorded/{self._manifest.name}"
            key = EpisodeKey(stream, 1, self._newest(stream, 1)[0] + 1)
        bodies = list(self._encoded(episode, key))
        with self._writing():
            if self._shard is None:
                self._shard, self._finished_lives = (
                    OpenShard(self.directory, len(self._manifest.shards)),
                    {**self._lives},
                )
            self._remember(self._shard.append(episode.name, key, episode.task, bodies))
        if self._shard.bytes >= self._shard_bytes:
            self.commit()
        return True

    def commit(self) -> None:
        """Makes what was added last, whatever happens from now on."""
        if self._shard is None or not self._shard.episodes:
            return
        with self._writing():
            shards = (*self._manifest.shards, self._shard.finish())
            manifest = replace(self._manifest, shards=shards)
            write_manifest(self.directory, manifest)
        self._manifest, self._shard = manifest, None

    def _go_on(self) -> None:
        """Takes over what is there, and clears away what a killed writer left."""
        if is_dataset(self.directory):
            there = read_manifest(self.directory)
            _check_same(self.directory, there, self._manifest)
            self._manifest = replace(there, origin=self._manifest.origin)
            if self._manifest.origin != there.origin:
                write_manifest(self.directory, self._manifest)
        else:
            _check_empty(self.directory)
            write_manifest(self.directory, self._manifest)
        for shard in self._manifest.shards:
            for episode in read_list(self.directory, shard):
                self._remember(episode)
        kept = {MANIFEST, LOCK} | {name for s in self._manifest.shards for name in (s.file, s.list_file)}
        for path in self.directory.iterdir():
            if path.name not in kept and _OURS.fullmatch(path.name):
                path.unlink()

    def _encoded(self, episode: NamedEpisode, key: EpisodeKey) -> Iterator[tuple[Entry, bytes]]:
        """The episode's chunks: a new one when another actor takes over."""
        starts = [a.first_step for a in episode.actors]
        seq = self._newest(key.stream, key.incarnation)[1] + 1
        for actor, end in zip(episode.actors, [*starts[1:], episode.steps], strict=True):
            for first_step in range(actor.first_step, end, self._chunk_steps):
                last_step = min(first_step + self._chunk_steps, end)
                chunk = Chunk(
                    id=ChunkId(key.stream, key.incarnation, seq),
                    episode=key.episode,
                    first_step=first_step,
                    policy_version=actor.policy_version,
                    source=actor.source,
                    spec_hash=self._manifest.spec.hash,
                    run=self._manifest.name,
                    arrays={f.name: episode.arrays[f.name][first_step:last_step] for f in self._manifest.spec.fields},
                )
                body = encode(chunk, self._codec)
                yield _entry(chunk, checksum_of(body)), body
                seq += 1

    def _newest(self, stream: str, incarnation: int) -> tuple[int, int]:
        """Episode and sequence number of the newest chunk of a life."""
        return self._lives.get((stream, incarnation), (-1, -1))

    def _remember(self, episode: StoredEpisode) -> None:
        self._names.add(episode.name)
        last = episode.chunks[-1].entry.id
        self._lives[last.stream, last.incarnation] = episode.key.episode, last.seq

    def _abandon(self) -> None:
        """Forgets the shard that is not finished."""
        shard, self._shard = self._shard, None
        if shard is not None:
            shard.abandon()
            self._names -= {e.name for e in shard.episodes}
            self._lives = self._finished_lives


def _entry(chunk: Chunk, checksum: int) -> Entry:
    return Entry(
        id=chunk.id,
        episode=chunk.episode,
        first_step=chunk.first_step,
        steps=chunk.steps,
        source=chunk.source,
        policy_version=chunk.policy_version,
        checksum=checksum,
    )


def _check_same(directory: Path, there: Manifest, wanted: Manifest) -> None:
    differences = {
        "name": (there.name, wanted.name),
        "episode spec": (there.spec.hash, wanted.spec.hash),
        "origin": (identity(there.origin), identity(wanted.origin)),
    }
    for what, (one, other) in differences.items():
        if one != other:
            raise BadInput(
                f"{directory} holds another data set: its {what} is {one!r}, not {other!r}.", "Give another directory."
            )


def _check_empty(directory: Path) -> None:
    if strange := sorted(p.name for p in directory.iterdir() if not _OURS.fullmatch(p.name)):
        raise BadInput(f"{directory} is not empty: there is {strange[0]!r}.", "Give a new or an empty directory.")
