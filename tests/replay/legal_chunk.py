"""A chunk with everything right, for forgers."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import Any

import msgpack
from replay_cases import SPEC, make_steps

from replay.codec import checksum_of, encode
from replay.config import Codec
from replay.schema import Chunk, ChunkId, Entry

RUN, STEPS = "fuzzed", 16


class Legal:
    """A chunk, its index entry and its bodies, before somebody forges them."""

    def __init__(self, stream: str = "s") -> None:
        self.chunk = Chunk(
            id=ChunkId(stream, 1, 0),
            episode=0,
            first_step=0,
            policy_version=3,
            source="random",
            spec_hash=SPEC.hash,
            run=RUN,
            arrays=make_steps(STEPS),
        )
        self.entry = Entry(
            id=self.chunk.id,
            episode=0,
            first_step=0,
            steps=STEPS,
            source="random",
            policy_version=3,
            checksum=checksum_of(self.body("lz4")),
        )

    def body(self, codec: Codec, **changes: Any) -> bytes:
        return encode(replace(self.chunk, **changes), codec)

    def parts(self, codec: Codec) -> tuple[dict[str, Any], bytes]:
        """Header and payload."""
        body = self.body(codec)
        (length,) = struct.unpack_from("<I", body, 8)
        return msgpack.unpackb(body[12 : 12 + length]), body[12 + length :]


CODECS: tuple[Codec, ...] = ("lz4", "zstd", "raw")


def forged(header: Any, payload: bytes, length: int | None = None) -> bytes:
    """A body with a right checksum over whatever it holds."""
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    rest = struct.pack("<I", len(packed) if length is None else length) + packed + payload
    return b"DWM1" + struct.pack("<I", zlib.crc32(rest)) + rest
