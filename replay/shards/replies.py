"""What a Redis replies, as our own types."""

from __future__ import annotations

from collections.abc import Mapping

from replay.schema import ChunkId, Entry


def numbers_of(counts: Mapping[bytes, bytes]) -> dict[str, int]:
    """A hash of counters."""
    return {name.decode(): int(value) for name, value in counts.items()}


def cursor_of(stream_id: bytes) -> int:
    """The number of a chunk, from its place in the index."""
    return int(stream_id.partition(b"-")[0])


def entry_of(fields: Mapping[bytes, bytes]) -> Entry:
    """What the index says of a chunk."""
    stream, incarnation, seq = fields[b"id"].decode().rsplit("/", 2)
    return Entry(
        id=ChunkId(stream, int(incarnation), int(seq)),
        episode=int(fields[b"episode"]),
        first_step=int(fields[b"first_step"]),
        steps=int(fields[b"steps"]),
        source=fields[b"source"].decode(),
        policy_version=int(fields[b"policy_version"]),
        checksum=int(fields[b"checksum"]),
    )
