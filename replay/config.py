"""How experience is stored: where, how much of it, how compressed and how safely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from replay.errors import BadInput

Codec = Literal["lz4", "zstd", "raw"]

# What an acknowledged chunk survives:
#   none     nothing: the server keeps experience in memory only
#   process  a kill of any process (AOF, fsync every second); a power cut may cost the last 2 s
#   host     a power cut as well (AOF, fsync before each acknowledgement); commits are many times slower
Durability = Literal["none", "process", "host"]


def _check(prefix: str, config: object, rules: Sequence[tuple[str, bool, str]]) -> None:
    for name, ok, wanted in rules:
        if not ok:
            raise BadInput(
                f"{prefix}.{name} is {getattr(config, name)!r}.", f"Set {prefix}.{name} to a value {wanted}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """Which windows a learner gets to see."""

    kind: Literal["uniform", "prioritised"] = "uniform"
    priority_exponent: float = 0.6  # alpha of prioritised draws: 0 is uniform, 1 in proportion to the priority
    weight_exponent: float = 0.4  # beta of the weights that undo them: 1 undoes them wholly
    online_share: float = 0.0  # of each batch: windows that end in the newest steps, each new step seen once
    latest_steps: int = 0  # draw from this many of the newest steps alone, to a chunk; 0 = from all

    def __post_init__(self) -> None:
        _check(
            "replay.sampling",
            self,
            [
                ("kind", self.kind in ("uniform", "prioritised"), "uniform or prioritised"),
                ("priority_exponent", 0 <= self.priority_exponent <= 1, "in [0, 1]"),
                ("weight_exponent", 0 <= self.weight_exponent <= 1, "in [0, 1]"),
                ("online_share", 0 <= self.online_share <= 1, "in [0, 1]"),
                ("latest_steps", self.latest_steps >= 0, "0 or more"),
                ("latest_steps", not self.latest_steps or self.kind == "uniform", "of 0 where draws are prioritised"),
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterConfig:
    """How far learners and actors may run apart: |sampled - samples_per_insert * inserted| in steps, see limiter.py."""

    samples_per_insert: float = 0.0  # how often each step is trained on; 0 = no limit
    min_steps: int = 1000  # stored before the first draw
    slack_steps: int = 10_000  # sampled steps that learners may run ahead or behind
    stall_s: float = 600.0  # of being held back, before giving up

    def __post_init__(self) -> None:
        _check(
            "replay.limiter",
            self,
            [
                ("samples_per_insert", self.samples_per_insert >= 0, "0 or more"),
                ("min_steps", self.min_steps >= 1, "1 or more"),
                (
                    "slack_steps",
                    self.slack_steps >= 2 * max(1.0, self.samples_per_insert),
                    "2 samples_per_insert or more",
                ),
                ("stall_s", self.stall_s > 0, "above 0"),
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """The same for writers and readers of one run."""

    url: str = ""  # redis://, rediss:// or unix://; several separated by commas are shards; empty starts an own server
    max_bytes: int = 2 * 2**30  # budget of all shards together; the oldest chunks make room for new ones
    chunk_steps: int = 64
    codec: Codec = "lz4"
    durability: Durability = "process"  # of the server that an empty url starts
    connect_timeout_s: float = 1.5  # at start, and the longest silence of the server before it counts as away
    outage_s: float = 60.0  # how long a server may be away before whoever needs it gives up (exit code 75)
    on_loss: Literal["stop", "continue"] = "stop"  # when a server comes back without experience that it acknowledged
    spool_bytes: int = 2**30  # per stream, on disk: chunks that wait for a server that is away; 0 = none, acting stops
    spool_dir: str = ""  # of this machine; empty = distwm-spool-<uid> in the temporary directory
    arena_bytes: int = 2 * 2**30  # decoded chunks that a machine's readers share in memory
    arena_dir: str = ""  # empty = /dev/shm
    valid_share: float = 0.1  # share of episodes held out for validation
    refresh_every_s: float = 0.0  # readers look for new experience by themselves; 0 = when asked, whatever the time
    mixture: str = ""  # parts and shares, live=0.5,live:expert=0.25,/data/set=0.25 (see mixture.py); empty = live=1
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    limiter: LimiterConfig = field(default_factory=LimiterConfig)

    def __post_init__(self) -> None:
        _check(
            "replay",
            self,
            [
                ("max_bytes", self.max_bytes > 0, "above 0"),
                ("chunk_steps", self.chunk_steps > 0, "above 0"),
                ("codec", self.codec in get_args(Codec), f"one of {get_args(Codec)}"),
                ("durability", self.durability in get_args(Durability), f"one of {get_args(Durability)}"),
                ("connect_timeout_s", self.connect_timeout_s > 0, "above 0"),
                ("outage_s", self.outage_s > 0, "above 0"),
                ("on_loss", self.on_loss in ("stop", "continue"), "stop or continue"),
                ("spool_bytes", self.spool_bytes >= 0, "0 or more"),
                ("arena_bytes", self.arena_bytes >= 0, "0 or more"),
                ("valid_share", 0 <= self.valid_share < 1, "in [0, 1)"),
                ("refresh_every_s", self.refresh_every_s >= 0, "0 or more"),
            ],
        )
