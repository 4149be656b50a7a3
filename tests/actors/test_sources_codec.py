"""openpi's wire format: the reference's bytes, and bytes that mean harm."""

from __future__ import annotations

import contextlib
from typing import Any

import hypothesis.extra.numpy as arrays
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.sources.codec import MAX_BYTES, BadFrame, pack, unpack

# What `openpi_client.msgpack_numpy.packb` of openpi-client 0.1.2 makes of them; test_sources_peer.py asks it again.
MESSAGES: dict[str, dict[str, Any]] = {
    "actions": {"actions": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "picture": {"observation/image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "prompt": "pick up the bowl"},
    "numbers": {"a": np.float32(0.5), "b": np.int64(-3), "c": np.bool_(True), "d": np.float64(2.0), "s": np.str_("ab")},
    "empty": {"x": np.zeros((0, 7), np.float32), "z": np.array(3, np.int16), "n": None, "l": [1, 2], "t": (1, b"c")},
    "odd": {
        "be": np.array([1.5, 2.5], ">f8"),
        "f": np.asfortranarray(np.arange(6, dtype="<i4").reshape(2, 3)),
        "u": np.array(["ab", "c"]),
        "b": np.array([True, False]),
        "h": np.array([1, 2], np.float16),
    },
}
GOLDEN = {
    "actions": "81a7616374696f6e7384c40b5f5f6e6461727261795f5fc3c40464617461c418000000000000803f00000040000040400000"
    "80400000a040c4056474797065a33c6634c4057368617065920203",
    "picture": "82b16f62736572766174696f6e2f696d61676584c40b5f5f6e6461727261795f5fc3c40464617461c40c0001020304050607"
    "08090a0bc4056474797065a37c7531c405736861706593020203a670726f6d7074b07069636b2075702074686520626f776c",
    "numbers": "85a16183c40d5f5f6e7067656e657269635f5fc3c40464617461cb3fe0000000000000c4056474797065a33c6634a16283c4"
    "0d5f5f6e7067656e657269635f5fc3c40464617461fdc4056474797065a33c6938a16383c40d5f5f6e7067656e657269635f"
    "5fc3c40464617461c3c4056474797065a37c6231a164cb4000000000000000a173a26162",
    "empty": "85a17884c40b5f5f6e6461727261795f5fc3c40464617461c400c4056474797065a33c6634c4057368617065920007a17a84"
    "c40b5f5f6e6461727261795f5fc3c40464617461c4020300c4056474797065a33c6932c405736861706590a16ec0a16c9201"
    "02a1749201c40163",
    "odd": "85a2626584c40b5f5f6e6461727261795f5fc3c40464617461c4103ff80000000000004004000000000000c4056474797065"
    "a33e6638c40573686170659102a16684c40b5f5f6e6461727261795f5fc3c40464617461c418000000000100000002000000"
    "030000000400000005000000c4056474797065a33c6934c4057368617065920203a17584c40b5f5f6e6461727261795f5fc3"
    "c40464617461c41061000000620000006300000000000000c4056474797065a33c5532c40573686170659102a16284c40b5f"
    "5f6e6461727261795f5fc3c40464617461c4020100c4056474797065a37c6231c40573686170659102a16884c40b5f5f6e64"
    "61727261795f5fc3c40464617461c404003c0040c4056474797065a33c6632c40573686170659102",
}
DTYPES = [np.dtype(name) for name in ("?", "u1", "i1", "<u2", ">i2", "<i4", ">u4", "<i8", "<f2", "<f4", ">f4", "<f8")]


def same(left: Any, right: Any) -> bool:
    """Numpy's float64 and text are Python's own too, and travel as such."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, np.ndarray) or (isinstance(left, np.generic) and not isinstance(left, (float, str))):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return bool(list(left) == right if isinstance(left, tuple) else left == right)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_bytes_are_the_reference_s(name: str) -> None:
    assert pack(MESSAGES[name]).hex() == GOLDEN[name]
    assert same(MESSAGES[name], unpack(bytes.fromhex(GOLDEN[name])))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    )
)
def test_every_array_comes_back(array: np.ndarray) -> None:
    found = unpack(pack({"x": array, "y": [array, {"z": array}]}))
    assert same({"x": array}, {"x": found["x"]})
    assert same({"x": array}, {"x": found["y"][1]["z"]})
    assert not found["x"].flags.writeable or array.size == 0
    if array.size:
        number = array.reshape(-1)[0]
        assert same(number.astype(number.dtype.newbyteorder("=")), unpack(pack(number)))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_damaged_messages_are_refused_or_read(name: str, data: st.DataObject) -> None:
    """Nothing but BadFrame, and nothing larger than what came."""
    whole = pack(MESSAGES[name])
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BadFrame):
        unpack(whole[:cut])
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadFrame):
        unpack(bytes(changed))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read(data: bytes) -> None:
    with contextlib.suppress(BadFrame):
        unpack(data)


def array_map(data: Any = b"\0" * 8, dtype: Any = "<f4", shape: Any = (2,)) -> bytes:
    return msgpack.packb({b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape})


@pytest.mark.parametrize(
    "message",
    [
        array_map(dtype="|O"),
        array_map(dtype="|V8", shape=(1,)),
        array_map(dtype="<c8", shape=(1,)),
        array_map(dtype="<M8[s]", shape=(1,)),
        array_map(dtype="f4,f4", shape=(1,)),
        array_map(dtype="<U0"),
        array_map(dtype="|S0", data=b"", shape=(2**40,)),
        array_map(dtype=3),
        array_map(dtype="<f4" * 99),
        array_map(shape=(3,)),
        array_map(shape=(-2, -1)),
        array_map(shape=(True, 2)),
        array_map(shape=(2**63, 0)),
        array_map(shape=(0, 2**40), data=b""),
        array_map(shape=[1] * 70),
        array_map(shape=None),
        array_map(data="text"),
        msgpack.packb({b"__ndarray__": True}),
        msgpack.packb({b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"}),
        msgpack.packb({b"__npgeneric__": True, b"data": "1e9", b"dtype": "<f4"}),
        msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}),
        msgpack.packb({1: 2}),
        msgpack.packb(msgpack.ExtType(5, b"x")),
        b"\xdd\xff\xff\xff\xff",  # a list of four milliards
        b"\x91" * 5000,
        b"",
        b"\xc0\xc0",
    ],
)
def test_harm_is_refused(message: bytes) -> None:
    with pytest.raises(BadFrame, match="no message"):
        unpack(message)


def test_large_messages_are_refused_unread() -> None:
    with pytest.raises(BadFrame, match=str(MAX_BYTES)):
        unpack(bytes(MAX_BYTES + 1))


@pytest.mark.parametrize(
    "value",
    [
        np.array([{}], object),
        np.zeros(2, np.complex64),
        np.zeros(2, "f4,f4"),
        np.zeros(2, np.longdouble),
        np.datetime64(0, "s"),
        object(),
        {1j},
    ],
    ids=["objects", "complex", "records", "long double", "time", "object", "set"],
)
def test_what_does_not_travel(value: Any) -> None:
    with pytest.raises(TypeError, match="travel"):
        pack({"x": value})
