"""A chunk as bytes: a checksum, a msgpack header and the compressed arrays. No pickle, nothing that runs code.

    offset  bytes
    0       4       magic "DWM1"
    4       4       CRC-32 of all that follows
    8       4       length of the header
    12      ...     header: a msgpack map of plain values (see `_header`)
    ...     ...     the arrays, C order, little endian, one after the other; compressed together with the named codec

Bodies come from the network, so `decode` trusts nothing: the checksum comes first, every length is compared with what
the spec implies before memory is taken for it, and whatever is wrong raises CorruptChunk.
"""

from __future__ import annotations

import math
import struct
import threading
import zlib
from functools import lru_cache
from typing import Any

import lz4.block
import msgpack
import numpy as np
import zstandard

from replay.check import DTYPES
from replay.config import Codec
from replay.errors import BadInput
from replay.schema import SCHEMA_VERSION, Chunk, ChunkId, EpisodeSpec

MAX_RAW_BYTES = 2**28
MAX_HEADER_BYTES = 2**16

_MAGIC = b"DWM1"
_PREFIX = struct.Struct("<4sII")
_HEADER_TYPES = {
    "schema": int,
    "spec": str,
    "run": str,
    "stream": str,
    "incarnation": int,
    "seq": int,
    "episode": int,
    "first_step": int,
    "policy_version": int,
    "source": str,
    "codec": str,
    "steps": int,
    "raw_bytes": int,
    "fields": list,
}


class CorruptChunk(BadInput):
    """Bytes that are not a chunk of this spec: damaged, cut short, forged, or of another version."""

    def __init__(self, reason: str, mend: str = "Delete this chunk from the replay, or start another run.") -> None:
        super().__init__(reason, mend)


def encode(chunk: Chunk, codec: Codec = "lz4") -> bytes:
    """The chunk as one body. Raises BadInput for a dtype that is not in the whitelist, or over MAX_RAW_BYTES."""
    raw = _gathered(chunk)
    header = msgpack.packb(_header(chunk, codec, len(raw)))
    head, payload = struct.pack("<I", len(header)) + header, _compress(raw, codec)
    checksum = zlib.crc32(payload, zlib.crc32(head))
    return b"".join((_MAGIC, struct.pack("<I", checksum), head, payload))


def checksum_of(body: bytes) -> int:
    """What `encode` put in front of the body, unchecked."""
    return int(_PREFIX.unpack_from(body)[1])


def verify(body: bytes) -> int:
    """The checksum of an undamaged body, or CorruptChunk."""
    if len(body) < _PREFIX.size:
        raise CorruptChunk(f"The chunk is cut short: {len(body)} bytes.")
    magic, checksum, _ = _PREFIX.unpack_from(body)
    if magic != _MAGIC:
        raise CorruptChunk("The bytes are not a chunk: the magic number is wrong.")
    if zlib.crc32(memoryview(body)[8:]) != checksum:
        raise CorruptChunk("The chunk is damaged: its checksum is wrong.")
    return int(checksum)


def decode(body: bytes, spec: EpisodeSpec, max_bytes: int = MAX_RAW_BYTES) -> Chunk:
    """The chunk of a body, its arrays read-only. Raises CorruptChunk, also when it would decode to over `max_bytes`."""
    header, payload = _split(body)
    if header["schema"] != SCHEMA_VERSION:
        raise CorruptChunk(f"The chunk has schema version {header['schema']}; this program reads {SCHEMA_VERSION}.")
    if header["spec"] != spec.hash:
        raise CorruptChunk(f"The chunk has episode spec {header['spec']}, not {spec.hash}.")
    names = _check_layout(header, spec, max_bytes)
    raw = _decompress(payload, header["codec"], header["raw_bytes"])
    return Chunk(
        id=ChunkId(header["stream"], header["incarnation"], header["seq"]),
        episode=header["episode"],
        first_step=header["first_step"],
        policy_version=header["policy_version"],
        source=header["source"],
        spec_hash=header["spec"],
        run=header["run"],
        arrays=_arrays(raw, names, spec, header["steps"]),
    )


def _header(chunk: Chunk, codec: Codec, raw_bytes: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "spec": chunk.spec_hash,
        "run": chunk.run,
        "stream": chunk.id.stream,
        "incarnation": chunk.id.incarnation,
        "seq": chunk.id.seq,
        "episode": chunk.episode,
        "first_step": chunk.first_step,
        "policy_version": chunk.policy_version,
        "source": chunk.source,
        "codec": codec,
        "steps": chunk.steps,
        "raw_bytes": raw_bytes,
        "fields": [[name, _name(array.dtype), list(array.shape)] for name, array in chunk.arrays.items()],
    }


class _Scratch(threading.local):
    """What a thread uses again and again: fresh pages and fresh compressors cost more than the work itself."""

    def __init__(self) -> None:
        self.raw = np.empty(0, np.uint8)
        self.compressor = zstandard.ZstdCompressor(level=1)
        self.decompressor = zstandard.ZstdDecompressor()


_scratch = _Scratch()


def _gathered(chunk: Chunk) -> memoryview:
    """The arrays one after the other, until the next call of this thread."""
    arrays = [_little_endian(name, array) for name, array in chunk.arrays.items()]
    count = sum(array.nbytes for array in arrays)
    if count > MAX_RAW_BYTES:
        raise BadInput(f"Chunk {chunk.id} has {count} bytes of at most {MAX_RAW_BYTES}.", "Lower replay.chunk_steps.")
    if len(_scratch.raw) < count:
        _scratch.raw = np.empty(count, np.uint8)
    end = 0
    for array in arrays:
        begin, end = end, end + array.nbytes
        _scratch.raw[begin:end] = array.reshape(-1).view(np.uint8)
    return _scratch.raw[:count].data


def _little_endian(name: str, array: np.ndarray) -> np.ndarray:
    if _name(array.dtype) not in DTYPES:
        raise BadInput(f"Field {name!r} has dtype {array.dtype}.", f"Use one of {sorted(DTYPES)}.")
    return np.ascontiguousarray(array, _little(array.dtype))


@lru_cache(maxsize=64)
def _name(dtype: np.dtype) -> str:
    """What numpy composes anew whenever it is asked."""
    return dtype.name


@lru_cache(maxsize=64)
def _little(dtype: np.dtype) -> np.dtype:
    return dtype.newbyteorder("<")


def _compress(raw: memoryview, codec: Codec) -> bytes | memoryview:
    if codec == "lz4":
        return lz4.block.compress(raw, store_size=False)
    if codec == "zstd":
        return _scratch.compressor.compress(raw)
    return raw


def _split(body: bytes) -> tuple[dict[str, Any], memoryview]:
    """The checked header and the payload."""
    verify(body)
    header_bytes = _PREFIX.unpack_from(body)[2]
    if header_bytes > min(MAX_HEADER_BYTES, len(body) - _PREFIX.size):
        raise CorruptChunk(f"The chunk's header claims {header_bytes} bytes.")
    end = _PREFIX.size + header_bytes
    try:
        header = msgpack.unpackb(body[_PREFIX.size : end])
    except (ValueError, msgpack.UnpackException) as error:
        raise CorruptChunk(f"The chunk's header is not msgpack: {error}.") from error
    _check_types(header)
    return header, memoryview(body)[end:]


def _check_types(header: Any) -> None:
    if not isinstance(header, dict) or header.keys() != _HEADER_TYPES.keys():
        raise CorruptChunk("The chunk's header has other keys than this version writes.")
    for key, kind in _HEADER_TYPES.items():
        if type(header[key]) is not kind or (kind is int and header[key] < 0):
            raise CorruptChunk(f"The chunk's header has {key} = {str(header[key])[:80]!r}.")


def _check_layout(header: dict[str, Any], spec: EpisodeSpec, max_bytes: int) -> list[str]:
    """Field names in the order of the body, after comparing every shape and size with the spec."""
    steps, stored = header["steps"], header["fields"]
    expected = [[f.name, f.dtype, [steps, *f.shape]] for f in spec.fields]
    if steps < 1 or len(stored) != len(expected) or any(f not in expected for f in stored):
        raise CorruptChunk("The chunk's fields are not those of its episode spec.")
    names = [f[0] for f in stored]
    raw_bytes = steps * sum(np.dtype(f.dtype).itemsize * math.prod(f.shape) for f in spec.fields)
    if len(set(names)) < len(names) or header["raw_bytes"] != raw_bytes:
        raise CorruptChunk(f"The chunk claims {header['raw_bytes']} bytes; its fields make {raw_bytes}.")
    if raw_bytes > max_bytes:
        raise CorruptChunk(f"The chunk would decode to {raw_bytes} bytes; the limit is {max_bytes}.")
    return names


def _decompress(payload: memoryview, codec: str, raw_bytes: int) -> bytes:
    try:
        if codec == "lz4":
            raw = lz4.block.decompress(payload, uncompressed_size=raw_bytes)
        elif codec == "zstd":
            if zstandard.frame_content_size(payload) != raw_bytes:  # zstd would take what the frame claims
                raise CorruptChunk("The chunk's zstd frame has another size than its header.")
            raw = _scratch.decompressor.decompress(payload, allow_extra_data=False)
        elif codec == "raw":
            raw = bytes(payload)
        else:
            raise CorruptChunk(f"The chunk's codec is {codec[:40]!r}.")
    except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
        raise CorruptChunk(f"The chunk does not decompress: {error}.") from error
    if len(raw) != raw_bytes:
        raise CorruptChunk(f"The chunk has {len(raw)} bytes; its header claims {raw_bytes}.")
    return raw


def _arrays(raw: bytes, names: list[str], spec: EpisodeSpec, steps: int) -> dict[str, np.ndarray]:
    """Read-only views into `raw`."""
    arrays, offset = {}, 0
    for name in names:
        field = spec[name]
        count = steps * math.prod(field.shape)
        dtype = np.dtype(field.dtype).newbyteorder("<")
        array = np.frombuffer(raw, dtype, count, offset).reshape(steps, *field.shape)
        if field.dtype == "bool" and array.view(np.uint8).max(initial=0) > 1:
            raise CorruptChunk(f"Field {name!r} holds bytes that are no booleans.")
        arrays[name] = array
        offset += array.nbytes
    return arrays
