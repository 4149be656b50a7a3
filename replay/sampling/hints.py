"""Priorities on their way to other learners: msgpack [sender, [[chunk id, priority], ...]], at most 4096 of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgpack

from replay.schema import ChunkId

MAX_HINTS = 4096
_MAX_BYTES = 2**20


class BadHints(ValueError):
    """A payload that is none of ours."""


def encode_hints(sender: str, priorities: Mapping[ChunkId, float]) -> bytes:
    """`sender` tells a learner its own hints when they come back. Raises ValueError for more than MAX_HINTS."""
    if len(priorities) > MAX_HINTS:
        raise ValueError(f"{len(priorities)} hints, more than {MAX_HINTS}")
    return msgpack.packb([sender, [[str(chunk), float(p)] for chunk, p in priorities.items()]])


def decode_hints(payload: bytes) -> tuple[str, dict[ChunkId, float]]:
    """What `encode_hints` was given. Raises BadHints for anything else."""
    if len(payload) > _MAX_BYTES:
        raise BadHints(f"{len(payload)} bytes")
    try:
        sender, pairs = msgpack.unpackb(payload, use_list=True, strict_map_key=True)
        if not isinstance(sender, str) or len(pairs) > MAX_HINTS:
            raise BadHints("no sender, or too many")
        return sender, {_chunk_id(name): _priority(value) for name, value in pairs}
    except BadHints:
        raise
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise BadHints(str(error)) from error


def _chunk_id(name: str) -> ChunkId:
    stream, incarnation, seq = name.rsplit("/", 2)
    return ChunkId(stream, int(incarnation), int(seq))


def _priority(value: object) -> float:
    if not isinstance(value, float) or not math.isfinite(value) or value < 0:
        raise BadHints(f"a priority of {value!r}")
    return value
