"""What travels between an environment's process and its host arrives as it was, and nothing else does."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import msgpack
import numpy as np
import pytest
from gymnasium import spaces as gym
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from actors.hosting import wire
from actors.hosting.plain import describe, portable, restore
from actors.hosting.slab import HEADER, Outcome, Pulse, Slab
from actors.hosting.spaces import build
from actors.hosting.wire import ARRAY, LENGTH, MAX_BYTES, Channel, array_out

KINDS = st.one_of(arrays.integer_dtypes(), arrays.unsigned_integer_dtypes(), arrays.floating_dtypes(sizes=(32, 64)))
ARRAYS = arrays.arrays(
    st.one_of(KINDS, arrays.boolean_dtypes()), arrays.array_shapes(min_dims=0, min_side=0, max_side=4)
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), ARRAYS
)
MESSAGES = st.recursive(LEAVES, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(), of, max_size=3))
BOXES = st.builds(
    lambda shape, dtype, low: gym.Box(low, low + 2, shape, dtype),
    arrays.array_shapes(max_side=3),
    st.sampled_from([np.float32, np.uint8, np.int64]),
    st.integers(0, 100),
)
NUMBERS = st.builds(gym.Discrete, st.integers(1, 5), start=st.integers(-2, 2)) | st.builds(
    gym.MultiDiscrete, st.lists(st.integers(1, 4), min_size=1, max_size=3)
)
SPACES = st.recursive(
    BOXES | NUMBERS | st.builds(gym.MultiBinary, st.integers(1, 3)),
    lambda of: (
        st.lists(of, min_size=1, max_size=3).map(gym.Tuple)
        | st.dictionaries(st.text(min_size=1), of, min_size=1, max_size=3).map(gym.Dict)
    ),
    max_leaves=4,
)


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    here, there = connected()
    yield here, there
    here.close()
    there.close()


def connected() -> tuple[Channel, Channel]:
    """The host's end and the other."""
    (question, ask), (answer, tell) = os.pipe(), os.pipe()
    return Channel(answer, ask, look_s=5.0), Channel(question, tell)


def sent(message: object) -> object:
    """From either end to the other."""
    here, there = connected()
    try:
        for sender, receiver in ((here, there), (there, here)):
            thread = threading.Thread(target=sender.send, args=(message,))  # large ones do not fit into the pipe
            thread.start()
            found = receiver.receive()
            thread.join()
            message = found
    finally:
        here.close()
        there.close()
    return found


def received(body: bytes) -> object:
    """What is read of these bytes, after which the other side is gone."""
    read, write = os.pipe()
    os.write(write, body)
    os.close(write)
    channel = Channel(read, os.dup(read))
    try:
        return channel.receive()
    finally:
        channel.close()


def in_bits(value: object) -> object:
    """With arrays as (dtype, shape, bytes), so that NaN is itself."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: in_bits(item) for key, item in value.items()}
    return list(map(in_bits, value)) if isinstance(value, list) else value


def as_lists(value: object) -> object:
    return list(map(as_lists, value)) if isinstance(value, tuple) else value


@given(MESSAGES)
@settings(deadline=None)
def test_messages_arrive_as_they_were(message: object) -> None:
    assert in_bits(sent(message)) == in_bits(message)


@given(SPACES, st.integers(0, 100))
@settings(deadline=None)
def test_spaces_and_their_actions_arrive_as_they_were(space: gym.Space, seed: int) -> None:
    plain = sent(describe(space))
    assert build(plain) == space
    space.seed(seed)
    action = space.sample()
    assert space.contains(restore(sent(as_lists(action)), plain)) or isinstance(action, dict | tuple)


def test_a_hybrid_action_keeps_its_shape() -> None:
    space = gym.Tuple([gym.Discrete(2), gym.Dict({"a": gym.Box(-1, 1, (2,)), "b": gym.Tuple([gym.Discrete(3)])})])
    arrived = restore(sent((1, {"a": np.zeros(2, np.float32), "b": (2,)})), describe(space))
    assert arrived[0] == 1
    assert arrived[1]["b"] == (2,)


def test_large_messages_grow_the_buffer() -> None:
    frame = np.arange(300 * 300 * 3, dtype=np.uint8).reshape(300, 300, 3)
    np.testing.assert_array_equal(sent([frame, 1])[0], frame)


@given(st.binary(max_size=64))
@settings(deadline=None)
def test_bytes_that_are_no_message_are_errors_of_value(body: bytes) -> None:
    with contextlib.suppress(ValueError, EOFError):
        received(LENGTH.pack(len(body)) + body)


@pytest.mark.parametrize(
    "parts",
    [("|O", (1,), b"12345678"), ("<f4", (3,), b"1234"), ("junk", (1,), b"1"), (3, 4), ("<f4", "x", b"1234"), b""],
)
def test_arrays_that_are_none(parts: object) -> None:
    body = msgpack.packb(msgpack.ExtType(ARRAY, msgpack.packb(parts)))
    with pytest.raises(ValueError, match=r"\w"):
        received(LENGTH.pack(len(body)) + body)


def test_limits_and_ends(pair: tuple[Channel, Channel]) -> None:
    channel, other = pair
    with pytest.raises(TypeError, match="object does not travel"):
        channel.send([object()])
    with pytest.raises(TypeError, match="ndarray does not travel"):
        array_out(np.array([object()]))
    with pytest.raises(ValueError, match="a message of"):
        received(LENGTH.pack(MAX_BYTES))
    with pytest.raises(ValueError, match="more than one"):
        received(LENGTH.pack(1) + b"\x01\x01")
    for cut in (b"", LENGTH.pack(2)[:3], LENGTH.pack(2) + b"\x01"):
        with pytest.raises(EOFError):
            received(cut)
    other.close()
    with pytest.raises(EOFError):
        channel.receive()
    with pytest.raises(OSError, match="Broken pipe"):
        channel.send([1])


def test_a_message_may_come_in_pieces() -> None:
    read, write = os.pipe()
    looks: list[float] = []
    channel = Channel(read, os.dup(write), look_s=0.01)
    body = msgpack.packb([1, "two"])

    def piece() -> None:
        looks.append(0.0)
        os.write(write, (LENGTH.pack(len(body)) + body)[len(looks) - 1 :][:1])

    assert channel.receive(piece) == [1, "two"]
    assert len(looks) == LENGTH.size + len(body)
    channel.close()
    channel.close()
    os.close(write)


def test_what_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch, pair: tuple[Channel, Channel]) -> None:
    monkeypatch.setattr(wire, "SEND_S", 0.05)
    with pytest.raises(TimeoutError, match="nothing was taken"):
        pair[0].send("x" * 2**20)


def test_only_plain_data_of_an_info_travels() -> None:
    info = {"a": 1, "b": np.float32(2), "c": np.ones(2), "d": object(), "e": None, 5: "x", "f": [1]}
    info["g"] = np.array(["words"])
    assert portable(info).keys() == {"a", "b", "c", "e", "5"}


def test_a_slab_holds_fields_of_any_kind_and_refuses_other_shapes() -> None:
    memory = os.memfd_create("test")
    os.ftruncate(memory, HEADER)
    fields = [("x", (2, 3), "<f4"), ("y", (), "<i8"), ("z", (0,), "|u1")]
    written, read = Slab(memory, fields), Slab(memory, fields)
    value = {"x": np.arange(6.0).reshape(2, 3), "y": 7, "z": np.zeros(0)}
    written.write(value)
    found = read.read()
    written.write({**value, "y": 8})
    assert (found["y"], found["y"].dtype, found["x"].dtype) == (7, np.int64, np.float32)
    np.testing.assert_array_equal(found["x"], value["x"])
    with pytest.raises(ValueError, match=r"x has the shape \(3,\)"):
        written.write({**value, "x": np.zeros(3)})
    pulse = Pulse(memory)
    pulse.beat()
    assert 0.0 <= pulse.age() < 5.0
    outcome = Outcome(memory)
    outcome.write(-0.5, True, False)
    assert (Outcome(memory).read(), 0.0 <= pulse.age() < 5.0) == ((-0.5, True, False), True)
    for one in (written, read, pulse, outcome):
        one.close()
    os.close(memory)
