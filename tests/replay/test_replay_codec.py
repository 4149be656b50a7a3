"""Chunks survive the wire; anything else is refused with CorruptChunk alone."""

from __future__ import annotations

import struct
import zlib

import lz4.block
import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from replay.check import DTYPES
from replay.codec import CorruptChunk, decode, encode
from replay.errors import BadInput
from replay.schema import Chunk, ChunkId, EpisodeSpec, FieldSpec

CODECS = ("lz4", "zstd", "raw")


@st.composite
def chunks(draw: st.DrawFn) -> tuple[Chunk, EpisodeSpec]:
    steps = draw(st.integers(1, 6))
    fields = [FieldSpec(name="reward", shape=(), dtype="float32", role="reward")]
    for name in draw(st.lists(st.text(min_size=1, max_size=8), max_size=4, unique=True)):
        if name != "reward":
            shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
            fields.append(
                FieldSpec(name=name, shape=shape, dtype=draw(st.sampled_from(sorted(DTYPES))), role="observation")
            )
    spec = EpisodeSpec(fields=tuple(fields))
    arrays = {f.name: draw(hnp.arrays(f.dtype, (steps, *f.shape))) for f in draw(st.permutations(fields))}
    number = st.integers(0, 2**63 - 1)
    return Chunk(
        id=ChunkId(draw(st.text(max_size=20)), draw(number), draw(number)),
        episode=draw(number),
        first_step=draw(number),
        policy_version=draw(number),
        source=draw(st.text(max_size=20)),
        spec_hash=spec.hash,
        arrays=arrays,
    ), spec


@given(chunks(), st.sampled_from(CODECS))
def test_decode_undoes_encode(made: tuple[Chunk, EpisodeSpec], codec: str) -> None:
    chunk, spec = made
    back = decode(encode(chunk, codec), spec)
    for name in ("id", "episode", "first_step", "policy_version", "source", "spec_hash"):
        assert getattr(back, name) == getattr(chunk, name)
    assert back.arrays.keys() == chunk.arrays.keys()
    for name, array in chunk.arrays.items():
        assert back.arrays[name].dtype == array.dtype
        assert back.arrays[name].tobytes() == array.tobytes()  # also NaN payloads
        assert back.arrays[name].shape == array.shape
        assert not back.arrays[name].flags.writeable


SPEC = EpisodeSpec.build({"image": ((4, 4, 3), "uint8")}, action_dim=2)


def example(steps: int = 5) -> Chunk:
    arrays = {f.name: np.zeros((steps, *f.shape), f.dtype) for f in SPEC.fields}
    return Chunk(
        id=ChunkId("s", 1, 2), episode=3, first_step=4, policy_version=5, source="x", spec_hash=SPEC.hash, arrays=arrays
    )


@given(st.sampled_from(CODECS), st.data())
def test_a_flipped_bit_is_found(codec: str, data: st.DataObject) -> None:
    body = bytearray(encode(example(), codec))
    position = data.draw(st.integers(0, 8 * len(body) - 1))
    body[position // 8] ^= 1 << position % 8
    with pytest.raises(CorruptChunk):
        decode(bytes(body), SPEC)


@given(st.sampled_from(CODECS), st.data())
def test_a_cut_or_extended_body_is_found(codec: str, data: st.DataObject) -> None:
    body = encode(example(), codec)
    cut = data.draw(st.integers(0, len(body) - 1))
    for wrong in (body[:cut], body + body[: cut + 1]):
        with pytest.raises(CorruptChunk):
            decode(wrong, SPEC)


def forge(header: bytes, payload: bytes) -> bytes:
    """A body whose checksum is right, whatever it says."""
    rest = struct.pack("<I", len(header)) + header + payload
    return b"DWM1" + struct.pack("<I", zlib.crc32(rest)) + rest


def parts(codec: str = "raw") -> tuple[dict, bytes]:
    body = encode(example(), codec)
    (size,) = struct.unpack_from("<I", body, 8)
    return msgpack.unpackb(body[12 : 12 + size]), body[12 + size :]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_chunk_are_refused(body: bytes) -> None:
    with pytest.raises(CorruptChunk):
        decode(body, SPEC)


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_a_header_that_is_no_header_is_refused(header: bytes, payload: bytes) -> None:
    with pytest.raises(CorruptChunk):
        decode(forge(header, payload), SPEC)


@given(st.data())
def test_a_forged_header_never_raises_anything_else(data: st.DataObject) -> None:
    header, payload = parts()
    key = data.draw(st.sampled_from(sorted(header)))
    header[key] = data.draw(json_like)
    try:
        decode(forge(msgpack.packb(header), payload), SPEC)
    except CorruptChunk:
        pass
    else:
        assert key in ("stream", "incarnation", "seq", "episode", "first_step", "policy_version", "source")


@given(st.sampled_from(CODECS), st.binary(max_size=100))
def test_a_forged_payload_never_raises_anything_else(codec: str, payload: bytes) -> None:
    header, _ = parts(codec)
    with pytest.raises(CorruptChunk):
        decode(forge(msgpack.packb(header), payload), SPEC)


@pytest.mark.parametrize("compress", [lambda b: lz4.block.compress(b, store_size=False), zstandard.compress])
def test_a_bomb_is_refused_before_it_goes_off(compress) -> None:
    codec = "zstd" if compress is zstandard.compress else "lz4"
    header, _ = parts(codec)
    bomb = compress(bytes(2**24))
    with pytest.raises(CorruptChunk):
        decode(forge(msgpack.packb(header), bomb), SPEC)


def test_a_chunk_over_the_limit_is_refused() -> None:
    body = encode(example())
    with pytest.raises(CorruptChunk, match="limit is 100"):
        decode(body, SPEC, max_bytes=100)


def test_another_spec_and_another_schema_are_refused() -> None:
    other = EpisodeSpec.build({"image": ((4, 4, 3), "uint8")}, action_dim=3)
    with pytest.raises(CorruptChunk, match="spec"):
        decode(encode(example()), other)
    header, payload = parts()
    header["schema"] = 99
    with pytest.raises(CorruptChunk, match="version 99"):
        decode(forge(msgpack.packb(header), payload), SPEC)


def test_objects_do_not_travel() -> None:
    chunk = example(1)
    arrays = dict(chunk.arrays) | {"image": np.array([object()])}
    bad = Chunk(
        id=chunk.id, episode=0, first_step=0, policy_version=0, source="", spec_hash=chunk.spec_hash, arrays=arrays
    )
    with pytest.raises(BadInput, match="image"):
        encode(bad)
