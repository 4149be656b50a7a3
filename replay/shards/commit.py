"""One commit: what goes to the script of a shard, and what its answer means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from replay.config import LimiterConfig
from replay.errors import BadInput, ExperienceLost
from replay.schema import ChunkId, Entry
from replay.shards import scripts
from replay.shards.limiter import Held, Limiter

# What a chunk costs besides its body: the index entry, the key and the allocator's share, about half a kilobyte.
OVERHEAD_BYTES = 512
DROPS = 1000  # chunks that one script may drop
LOSS_MEND = (
    "Give the server its data back and run the same command again, or set replay.on_loss=continue to go on with what "
    "is left."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One life of a stream, on the shard that holds its chunks. The token tells it from a life of the same number that
    began after the shard had forgotten this one."""

    stream: str
    incarnation: int
    token: str
    epoch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a writer holds its shard to: the life that it began there, and the last chunk that was acknowledged."""

    life: Life
    acknowledged: int = -1  # its sequence number


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The limiter's say in a commit. `elsewhere` counts the steps inserted on the other shards."""

    config: LimiterConfig = field(default_factory=LimiterConfig)
    elsewhere: int = 0

    @property
    def args(self) -> list[Any]:
        c = self.config
        return [c.samples_per_insert, c.min_steps, c.slack_steps, self.elsewhere]


def arguments(
    prefix: str, entry: Entry, body: bytes, max_bytes: int, claim: Claim | None, pace: Pace | None
) -> list[Any]:
    """Of scripts.COMMIT. Raises BadInput for a chunk that is larger than the budget."""
    size = len(body) + OVERHEAD_BYTES
    if size > max_bytes:
        raise BadInput(
            f"Chunk {entry.id} takes {size} bytes of a budget of {max_bytes}.",
            "Raise replay.max_bytes or lower replay.chunk_steps.",
        )
    life = [claim.life.epoch, claim.life.token, claim.acknowledged] if claim else ["", "", -1]
    return [
        *(prefix, *life, f"{entry.id.stream}/{entry.id.incarnation}", entry.id.seq, max_bytes, size, DROPS),
        *(pace or Pace()).args,
        *(body, str(entry.id), entry.episode, entry.first_step, entry.steps),
        *(entry.source, entry.policy_version, entry.checksum),
    ]


def verdict(reply: list[int], entry: Entry, pace: Pace | None, server: str, claim: Claim | None) -> bool:
    """Whether the chunk is new. Raises Held or ExperienceLost."""
    if reply[0] == scripts.HELD:
        limiter = Limiter((pace or Pace()).config)
        raise Held(limiter.may_insert(reply[1], reply[2], entry.steps).reason)
    if reply[0] == scripts.LOST:
        raise _lost(entry.id, server, reply[1], reply[2], claim.acknowledged if claim else -1)
    return reply[0] == scripts.STORED


def _lost(chunk: ChunkId, server: str, found: int, last: int, acknowledged: int) -> ExperienceLost:
    life, gone = f"{chunk.stream}/{chunk.incarnation}", acknowledged - last
    said = ("came back empty", "came back with another data set", "came back with older data")[found]
    error = ExperienceLost(f"Redis at {server} {said}: {gone} acknowledged chunks of life {life} are gone.", LOSS_MEND)
    error.chunks = gone
    return error
