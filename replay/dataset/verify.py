"""Whether recorded data is whole: everything is read, hashed and decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from replay.codec import CorruptChunk, decode
from replay.dataset.format import Manifest, ShardFile, StoredChunk, damaged, read_list, read_manifest
from replay.schema import EpisodeSpec


def verify(directory: Path, tell: Callable[[int, int], object] = lambda done, total: None) -> Manifest:
    """Reads, hashes and decodes everything. Raises DamagedData for the first damage, by file and offset.

    `tell(bytes done, bytes in all)` is called as it goes on.
    """
    manifest = read_manifest(directory)
    done, total = 0, sum(s.bytes for s in manifest.shards)
    for shard in manifest.shards:
        for length in _verify_shard(directory, shard, manifest.spec):
            done += length
            tell(done, total)
    return manifest


def check_body(path: Path, chunk: StoredChunk, body: bytes, spec: EpisodeSpec) -> None:
    """Raises DamagedData unless `body`, read from `path`, is that of `chunk`."""
    if len(body) != chunk.length:
        raise damaged(path, chunk.offset + len(body), "it is cut short")
    try:
        found = decode(body, spec)
    except CorruptChunk as error:
        raise damaged(path, chunk.offset, error.message.rstrip(".")) from error
    if (found.id, found.first_step, found.steps) != (chunk.entry.id, chunk.entry.first_step, chunk.entry.steps):
        raise damaged(path, chunk.offset, f"there is chunk {found.id} instead of {chunk.entry.id}")


def _verify_shard(directory: Path, shard: ShardFile, spec: EpisodeSpec) -> Iterator[int]:
    """Yields the length of each body that is in order."""
    path, digest, end = directory / shard.file, hashlib.sha256(), 0
    episodes = read_list(directory, shard)
    if not path.is_file():
        raise damaged(path, 0, "it is missing")
    with path.open("rb") as file:
        for chunk in (c for e in episodes for c in e.chunks):
            file.seek(chunk.offset)
            body = file.read(chunk.length)
            check_body(path, chunk, body, spec)
            digest.update(body)
            end = chunk.offset + chunk.length
            yield chunk.length
        size = file.seek(0, os.SEEK_END)
    if size != shard.bytes or digest.hexdigest() != shard.sha256:
        raise damaged(path, end, f"it has {size} bytes of {shard.bytes}, or another SHA-256 than the manifest says")
