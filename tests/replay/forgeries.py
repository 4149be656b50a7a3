"""Ways to forge a chunk's body: functions (random, legal chunk) -> body. Most put a right checksum in front of their
work, so that what is behind the checksum is reached too."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import numpy as np
import zstandard
from legal_chunk import CODECS, RUN, STEPS, Legal, forged
from replay_cases import SPEC, make_steps

from replay.codec import MAX_RAW_BYTES


def flip_bits(random: Random, legal: Legal) -> bytes:
    body = legal.body(random.choice(CODECS))
    damaged = bytearray(body)
    for _ in range(random.choice([1, 1, 2, 8, 100])):
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged) if bytes(damaged) != body else b""


def truncate(random: Random, legal: Legal) -> bytes:
    body = legal.body(random.choice(CODECS))
    return body[: random.choice([0, 1, 3, 4, 7, 8, 11, 12, random.randrange(len(body))])]


def extend(random: Random, legal: Legal) -> bytes:
    return legal.body(random.choice(CODECS)) + random.randbytes(random.choice([1, 4, 1000]))


def noise(random: Random, legal: Legal) -> bytes:
    return random.choice([b"", b"DWM1", b"DWQ1"]) + random.randbytes(random.choice([0, 8, 12, 100, 10_000]))


def extend_behind_the_checksum(random: Random, legal: Legal) -> bytes:
    header, payload = legal.parts(random.choice(CODECS))
    return forged(header, payload + random.randbytes(random.choice([1, 4, 1000])))


def truncate_behind_the_checksum(random: Random, legal: Legal) -> bytes:
    header, payload = legal.parts(random.choice(CODECS))
    return forged(header, payload[: random.randrange(len(payload))])


def flip_in_the_header(random: Random, legal: Legal) -> bytes:
    """Any bits of the header, with a right checksum."""
    header, payload = legal.parts(random.choice(CODECS))
    packed = bytearray(msgpack.packb(header))
    packed[random.randrange(len(packed))] ^= 1 << random.randrange(8)
    return forged(bytes(packed), payload)


def wrong_dtype(random: Random, legal: Legal) -> bytes:
    """Other dtypes of the same name, also such that would run code or hold pointers."""
    header, payload = legal.parts(random.choice(CODECS))
    field = random.choice(header["fields"])
    wanted = field[1]
    names = [
        "object",
        "O",
        "V8",
        "void",
        "|V16",
        "complex128",
        "datetime64[s]",
        "S8",
        "U4",
        "float32,object",
        "f",
        "<f4",
    ]
    names += [["float32"], {"names": ["a"], "formats": ["O"]}, 7, None, "uint8", "int8", "float64", "bool", ">f4"]
    field[1] = random.choice([n for n in names if n != wanted])
    return forged(header, payload)


def wrong_shape(random: Random, legal: Legal) -> bytes:
    header, payload = legal.parts(random.choice(CODECS))
    field = random.choice(header["fields"])
    big = random.choice([2**31, 2**62, 2**63 - 1, -1, -(2**31), 0, STEPS + 1, 1.0, "16", None, [16]])
    shapes = [[big, *field[2][1:]], [*field[2], big], [*field[2], 1], [], [big] * 64, [*field[2][::-1], 2]]
    field[2] = random.choice(shapes)
    return forged(header, payload)


def wrong_sizes(random: Random, legal: Legal) -> bytes:
    """Steps and lengths that are negative, huge or do not fit one another."""
    header, payload = legal.parts(random.choice(CODECS))
    value = random.choice([-1, 0, -(2**31), 2**31, 2**62, 2**63 - 1, STEPS - 1, STEPS + 1, 1.5, True, None, "16"])
    if random.random() < 0.5:
        header["steps"] = value
        if isinstance(value, int) and random.random() < 0.7:
            header["fields"] = [[n, d, [value, *shape[1:]]] for n, d, shape in header["fields"]]
            header["raw_bytes"] = min(header["raw_bytes"] // STEPS * value, 2**63)
    else:
        header["raw_bytes"] = value
    return forged(header, payload)


def wrong_lengths(random: Random, legal: Legal) -> bytes:
    """The length of the header, which comes before it."""
    header, payload = legal.parts(random.choice(CODECS))
    real = len(msgpack.packb(header))
    return forged(header, payload, random.choice([0, 1, real - 1, real + 1, 2**16 + 1, 2**31, 2**32 - 1]))


def wrong_field(random: Random, legal: Legal) -> bytes:
    """Fields left out, doubled, renamed; keys that are not there or that nobody knows."""
    header, payload = legal.parts(random.choice(CODECS))
    fields = header["fields"]
    where = random.randrange(len(fields))
    match random.randrange(6):
        case 0:
            del fields[where]
        case 1:
            fields.append(fields[where])
        case 2:
            fields[where][0] = random.choice(["", "x", "__class__", "../../etc", "is_first", 3])
        case 3:
            del header[random.choice(list(header))]
        case 4:
            header[random.choice(["__reduce__", "x", "nd", ""])] = random.choice([1, "x", [1]])
        case 5:
            fields[where] = fields[where - 1]
    return forged(header, payload)


def wrong_type(random: Random, legal: Legal) -> bytes:
    header, payload = legal.parts(random.choice(CODECS))
    values = [None, True, 1.5, -1, "x", b"x", [], {}, [[]], {"a": {}}, 2**64 - 1, msgpack.ExtType(4, b"x")]
    values += [msgpack.Timestamp(1), float("nan"), "x" * 70_000]
    key = random.choice(list(header))
    value = random.choice([v for v in values if type(v) is not type(header[key]) or key in ("fields", "codec", "spec")])
    return forged({**header, key: value}, payload)


def deep_header(random: Random, legal: Legal) -> bytes:
    """msgpack that nests without end, or claims more than it brings."""
    _, payload = legal.parts(random.choice(CODECS))
    depth = random.choice([100, 1000, 60_000])
    packed = random.choice(
        [b"\x91" * depth, b"\x81\xa1x" * (depth // 3), b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
    )
    return forged(packed + b"\xc0", payload)


def bomb(random: Random, legal: Legal) -> bytes:
    """Few bytes that claim to be, or are, gigabytes."""
    header, _ = legal.parts(random.choice(CODECS))
    header["codec"] = random.choice(["lz4", "zstd"])
    claims = random.choice([header["raw_bytes"], MAX_RAW_BYTES, 2**30, 2**40])
    if header["codec"] == "lz4":
        payload = b"\x1f\x00\x01\x00" + b"\xff" * random.choice([100, 100_000]) + b"\x00"
    else:
        payload = random.choice(bombs())
    if random.random() < 0.5:
        steps = max(1, claims // (header["raw_bytes"] // STEPS))
        header["steps"], header["raw_bytes"] = steps, header["raw_bytes"] // STEPS * steps
        header["fields"] = [[n, d, [steps, *shape[1:]]] for n, d, shape in header["fields"]]
    else:
        header["raw_bytes"] = claims
    return forged(header, payload)


def zstd_unsized(raw: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    return compressor.compress(raw) + compressor.flush()


def zstd_lies(raw: bytes) -> bytes:
    """A frame that claims to hold as many bytes as the chunk has, and holds more."""
    frame = bytearray(zstandard.ZstdCompressor(level=1).compress(raw))
    size = sum(a.nbytes for a in Legal().chunk.arrays.values())
    assert frame[4] >> 6 == 2, "a content size of four bytes"
    at = 5 if frame[4] & 0x20 else 6
    frame[at : at + 4] = struct.pack("<I", size)
    return bytes(frame)


@cache
def bombs() -> list[bytes]:
    """A quarter of a gigabyte each."""
    zeros = bytes(2**28)
    return [zstandard.ZstdCompressor(level=1).compress(zeros), zstd_unsized(zeros), zstd_lies(zeros)]


def unsized_frame(random: Random, legal: Legal) -> bytes:
    """The right bytes, but in a zstd frame that does not say how many they are."""
    header, _ = legal.parts(random.choice(CODECS))
    _, raw = legal.parts("raw")
    return forged({**header, "codec": "zstd"}, zstd_unsized(raw) + random.randbytes(random.choice([0, 0, 5])))


def other_codec(random: Random, legal: Legal) -> bytes:
    header, payload = legal.parts(random.choice(CODECS))
    names = ["lz4", "zstd", "raw", "gzip", "pickle", "", "LZ4", "lz4\x00", "../raw"]
    return forged({**header, "codec": random.choice([n for n in names if n != header["codec"]])}, payload)


def pickled(random: Random, legal: Legal) -> bytes:
    """Programs: they would leave a file behind."""
    header, payload = legal.parts(random.choice(CODECS))
    program = pickle.dumps(Bang(), protocol=random.choice([0, 2, 4, 5]))
    archive = io.BytesIO()
    np.save(archive, np.array([{"x": 1}], object), allow_pickle=True)
    program = random.choice([program, archive.getvalue(), b"\x80\x04" + program])
    forgeries = [program, b"DWM1" + program, forged(program, payload), forged({**header, "codec": "raw"}, program)]
    return random.choice([*forgeries, forged({**header, "source": program}, payload)])


class Bang:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (MARK,)


MARK = Path("/tmp/distwm-fuzz-was-unpickled")


def other_schema(random: Random, legal: Legal) -> bytes:
    header, payload = legal.parts(random.choice(CODECS))
    return forged({**header, "schema": random.choice([0, 1, 3, 99, 2**31])}, payload)


def other_spec(random: Random, legal: Legal) -> bytes:
    header, payload = legal.parts(random.choice(CODECS))
    return forged({**header, "spec": random.choice(["", "0" * 16, SPEC.hash.upper() + "x", SPEC.hash[:-1]])}, payload)


def other_run(random: Random, legal: Legal) -> bytes:
    return legal.body("lz4", run=random.choice(["", "theirs", RUN + " ", RUN.upper()]))


def other_chunk(random: Random, legal: Legal) -> bytes:
    """A legal body, of another chunk."""
    change = random.choice(
        [
            {"id": replace(legal.chunk.id, seq=1 + random.randrange(9))},
            {"id": replace(legal.chunk.id, incarnation=2)},
            {"id": replace(legal.chunk.id, stream="t")},
            {"policy_version": 4},
            {"source": "expert"},
            {"episode": 1},
            {"first_step": 16},
            {"arrays": make_steps(STEPS - 1)},
        ]
    )
    return legal.body(random.choice(CODECS), **change)


def no_booleans(random: Random, legal: Legal) -> bytes:
    """Bytes above 1 in a field of bools."""
    header, payload = legal.parts("raw")
    raw, flags = bytearray(payload), 3 * STEPS
    raw[len(raw) - 1 - random.randrange(flags)] = random.randrange(2, 256)
    return forged(header, bytes(raw))


FORGERIES: list[Callable[[Random, bytes], bytes]] = [
    flip_bits,
    truncate,
    extend,
    noise,
    extend_behind_the_checksum,
    truncate_behind_the_checksum,
    flip_in_the_header,
    wrong_dtype,
    wrong_shape,
    wrong_sizes,
    wrong_lengths,
    wrong_field,
    wrong_type,
    deep_header,
    bomb,
    unsized_frame,
    other_codec,
    pickled,
    other_schema,
    other_spec,
    other_run,
    other_chunk,
    no_booleans,
]
