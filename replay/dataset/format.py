"""Recorded data on disk: what lies where, and whether it is whole.

    manifest.json       the episode spec, where the data came from, and the shards with their SHA-256
    shard-00000.bin     bodies of chunks (codec.py), one after the other
    shard-00000.json    the episodes of that shard: name, key, task, and of each chunk its place and checksum

A shard and its list are complete before the manifest names them, and never change afterwards. So what the manifest
names is whole at any moment; files that it does not name are what a writer left that was killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from replay.check import check_spec
from replay.dataset.files import replace_file
from replay.errors import BadInput
from replay.schema import ChunkId, Entry, EpisodeKey, EpisodeSpec, FieldSpec

_T = TypeVar("_T")

FORMAT, VERSION = "distwm-dataset", 1
MANIFEST = "manifest.json"
PROVENANCE = "provenance"  # in an origin: whose actions the data holds, in words


class DamagedData(BadInput):
    """A file of a data set is not what was written; the message names the file and the offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChunk:
    """A chunk and where its body lies in the file of its shard, in bytes."""

    entry: Entry
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEpisode:
    """An episode within one shard; its chunks in order."""

    name: str
    key: EpisodeKey
    task: str
    chunks: tuple[StoredChunk, ...]

    @property
    def steps(self) -> int:
        return sum(c.entry.steps for c in self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFile:
    """What the manifest says of a shard."""

    number: int
    sha256: str
    bytes: int
    list_sha256: str
    episodes: int
    steps: int

    @property
    def file(self) -> str:
        return f"shard-{self.number:05d}.bin"

    @property
    def list_file(self) -> str:
        return f"shard-{self.number:05d}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A data set. `origin` is free: plain JSON values that say where it came from."""

    name: str
    spec: EpisodeSpec
    origin: Mapping[str, Any] = field(default_factory=dict)
    shards: tuple[ShardFile, ...] = ()

    @property
    def episodes(self) -> int:
        return sum(s.episodes for s in self.shards)

    @property
    def steps(self) -> int:
        return sum(s.steps for s in self.shards)


def damaged(path: Path, offset: int, reason: str) -> DamagedData:
    """The error to raise."""
    return DamagedData(
        f"{path} is damaged at byte {offset}: {reason}.",
        "Restore the file from a copy, or delete the data set and make it again.",
    )


def is_dataset(directory: Path) -> bool:
    """Whether there is recorded data of ours."""
    return (directory / MANIFEST).is_file()


def read_manifest(directory: Path) -> Manifest:
    """Raises BadInput if the directory holds no data set of this version, DamagedData if it cannot be understood."""
    path = directory / MANIFEST
    if not path.is_file():
        raise BadInput(f"{directory} holds no recorded data: there is no {MANIFEST}.", "Give another directory.")
    manifest = _parse(path, _bytes_of(path), partial(_manifest, path))
    check_spec(manifest.spec)
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """After a crash at any moment there is the old manifest or the new one."""
    tree = {
        "format": FORMAT,
        "version": VERSION,
        "name": manifest.name,
        "origin": dict(manifest.origin),
        "episodes": manifest.episodes,
        "steps": manifest.steps,
        "spec": [asdict(f) for f in manifest.spec.fields],
        "shards": [{"file": s.file, **asdict(s)} for s in manifest.shards],
    }
    tree["sha256"] = _digest(tree)
    replace_file(directory / MANIFEST, json.dumps(tree, indent=1).encode())


def read_list(directory: Path, shard: ShardFile) -> tuple[StoredEpisode, ...]:
    """The episodes of a shard. Raises DamagedData."""
    path = directory / shard.list_file
    text = _bytes_of(path)
    if hashlib.sha256(text).hexdigest() != shard.list_sha256:
        raise damaged(path, 0, "its SHA-256 is not the one in the manifest")
    return _parse(path, text, lambda tree: tuple(_episode(e) for e in tree))


def list_text(episodes: list[StoredEpisode]) -> bytes:
    """What `read_list` reads."""
    tree = [
        {
            "name": e.name,
            "key": [e.key.stream, e.key.incarnation, e.key.episode],
            "task": e.task,
            "chunks": [_row(c) for c in e.chunks],
        }
        for e in episodes
    ]
    return json.dumps(tree, separators=(",", ":")).encode()


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise damaged(path, 0, f"it cannot be read ({error.strerror})") from error


def identity(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What of an origin tells data sets apart: all but the words on whose actions they hold, which may grow."""
    return {name: value for name, value in origin.items() if name != PROVENANCE}


def _parse(path: Path, text: bytes, build: Callable[[Any], _T]) -> _T:
    try:
        return build(json.loads(text))
    except json.JSONDecodeError as error:
        raise damaged(path, error.pos, f"it is no JSON ({error.msg})") from error
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise damaged(path, 0, f"it is not what this program writes ({type(error).__name__}: {error})") from error


def _manifest(path: Path, tree: Any) -> Manifest:
    if (tree["format"], tree["version"]) != (FORMAT, VERSION):
        raise BadInput(
            f"{path} is of {tree['format']!r} version {tree['version']!r}; this program reads {FORMAT} {VERSION}.",
            "Read it with the program that wrote it.",
        )
    if tree.pop("sha256") != _digest(tree):
        raise ValueError("its SHA-256 is not the one it says")
    fields = [
        FieldSpec(name=str(f["name"]), shape=tuple(map(int, f["shape"])), dtype=str(f["dtype"]), role=f["role"])
        for f in tree["spec"]
    ]
    names = ShardFile.__dataclass_fields__
    shards = tuple(ShardFile(**{name: s[name] for name in names}) for s in tree["shards"])
    if [s.number for s in shards] != list(range(len(shards))):
        raise ValueError("the shards are not numbered 0, 1, 2, ...")
    return Manifest(
        name=str(tree["name"]), spec=EpisodeSpec(fields=tuple(fields)), origin=dict(tree["origin"]), shards=shards
    )


def _digest(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _row(chunk: StoredChunk) -> list[Any]:
    e = chunk.entry
    return [e.id.seq, e.first_step, e.steps, e.source, e.policy_version, e.checksum, chunk.offset, chunk.length]


def _episode(tree: Any) -> StoredEpisode:
    key = EpisodeKey(str(tree["key"][0]), int(tree["key"][1]), int(tree["key"][2]))
    chunks = tuple(_chunk(key, row) for row in tree["chunks"])
    return StoredEpisode(name=str(tree["name"]), key=key, task=str(tree["task"]), chunks=chunks)


def _chunk(key: EpisodeKey, row: Any) -> StoredChunk:
    seq, first_step, steps, source, policy_version, checksum, offset, length = row
    entry = Entry(
        id=ChunkId(key.stream, key.incarnation, int(seq)),
        episode=key.episode,
        first_step=int(first_step),
        steps=int(steps),
        source=str(source),
        policy_version=int(policy_version),
        checksum=int(checksum),
    )
    return StoredChunk(entry=entry, offset=int(offset), length=int(length))
