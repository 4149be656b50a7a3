"""How experience is stored: where, how much of it, how compressed and how safely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from replay.errors import BadInput

Codec = Literal["lz4", "zstd", "raw"]

# What an acknowledged chunk survives:
#   none     nothing: the server keeps experience in memory only
#   process  a kill of any process (AOF, fsync every second); a power cut may cost the last 2 s
#   host     a power cut as well (AOF, fsync before each acknowledgement); commits are many times slower
Durability = Literal["none", "process", "host"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """The same for writers and readers of one run."""

    url: str = ""  # redis://, rediss:// or unix://; several separated by commas are shards; empty starts an own server
    max_bytes: int = 2 * 2**30  # budget of all shards together; the oldest chunks make room for new ones
    chunk_steps: int = 64
    codec: Codec = "lz4"
    durability: Durability = "process"  # of the server that an empty url starts
    connect_timeout_s: float = 5.0  # at start, and the longest silence of the server within one command
    outage_s: float = 60.0  # how long a command is tried again while the server is away
    cache_bytes: int = 2 * 2**30  # decoded chunks that a reader keeps
    valid_share: float = 0.1  # share of episodes held out for validation

    def __post_init__(self) -> None:
        for name, ok, wanted in (
            ("max_bytes", self.max_bytes > 0, "above 0"),
            ("chunk_steps", self.chunk_steps > 0, "above 0"),
            ("codec", self.codec in get_args(Codec), f"one of {get_args(Codec)}"),
            ("durability", self.durability in get_args(Durability), f"one of {get_args(Durability)}"),
            ("connect_timeout_s", self.connect_timeout_s > 0, "above 0"),
            ("outage_s", self.outage_s > 0, "above 0"),
            ("cache_bytes", self.cache_bytes >= 0, "0 or more"),
            ("valid_share", 0 <= self.valid_share < 1, "in [0, 1)"),
        ):
            if not ok:
                raise BadInput(f"replay.{name} is {getattr(self, name)!r}.", f"Set replay.{name} to a value {wanted}.")
