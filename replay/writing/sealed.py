"""A chunk on its way to the replay, in memory or as a file: fixed, so that a retry sends the very same bytes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import msgpack

from replay.codec import CorruptChunk, checksum_of, encode, verify
from replay.config import Codec
from replay.schema import Chunk, ChunkId, Entry

_PREFIX = struct.Struct("<4sII")  # magic, length and CRC-32 of the header; then the header and the body
_MAGIC = b"DWQ1"
_TYPES = [str, int, int, int, int, int, str, int, int, bool]


@dataclass(frozen=True, slots=True)
class Sealed:
    """The body, what the index will say of it, and whether its episode ends with it."""

    entry: Entry
    body: bytes
    ends_episode: bool


def seal(chunk: Chunk, codec: Codec, ends_episode: bool) -> Sealed:
    """Encodes. Raises BadInput for what the codec does not carry."""
    body = encode(chunk, codec)
    entry = Entry(
        id=chunk.id,
        episode=chunk.episode,
        first_step=chunk.first_step,
        steps=chunk.steps,
        source=chunk.source,
        policy_version=chunk.policy_version,
        checksum=checksum_of(body),
    )
    return Sealed(entry, body, ends_episode)


def pack(sealed: Sealed) -> list[bytes]:
    """The parts of a file."""
    e = sealed.entry
    values = [e.id.stream, e.id.incarnation, e.id.seq, e.episode, e.first_step, e.steps]
    values += [e.source, e.policy_version, e.checksum, sealed.ends_episode]
    header = msgpack.packb(values)
    return [_PREFIX.pack(_MAGIC, len(header), zlib.crc32(header)), header, sealed.body]


def unpack(data: bytes) -> Sealed:
    """Raises CorruptChunk."""
    if len(data) < _PREFIX.size:
        raise CorruptChunk(f"The file is cut short: {len(data)} bytes.")
    magic, length, checksum = _PREFIX.unpack_from(data)
    header = data[_PREFIX.size : _PREFIX.size + length]
    if magic != _MAGIC or len(header) != length or zlib.crc32(header) != checksum:
        raise CorruptChunk("The file's header is damaged.")
    entry, ends_episode = _entry(msgpack.unpackb(header))
    body = data[_PREFIX.size + length :]
    if verify(body) != entry.checksum:
        raise CorruptChunk("The file's body is another chunk's.")
    return Sealed(entry, body, ends_episode)


def _entry(values: Any) -> tuple[Entry, bool]:
    if not isinstance(values, list) or [type(v) for v in values] != _TYPES:
        raise CorruptChunk("The file's header is of another version.")
    stream, incarnation, seq, episode, first_step, steps, source, version, checksum, ends_episode = values
    entry = Entry(
        id=ChunkId(stream, incarnation, seq),
        episode=episode,
        first_step=first_step,
        steps=steps,
        source=source,
        policy_version=version,
        checksum=checksum,
    )
    return entry, ends_episode
