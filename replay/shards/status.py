"""How much experience a run has stored."""

from __future__ import annotations

from dataclasses import dataclass

from replay.config import ReplayConfig
from replay.shards.router import Router


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayStatus:
    """Counts of what is stored now, over all shards; `inserted_steps` also counts what was evicted since."""

    steps: int = 0
    episodes: int = 0  # whose first chunk is stored
    chunks: int = 0
    bytes: int = 0  # as the budget counts them: compressed bodies and their overhead
    streams: int = 0
    inserted_steps: int = 0


def status(config: ReplayConfig, run: str) -> ReplayStatus:
    """Asks every shard. Raises TryAgain if one does not answer within `config.connect_timeout_s`."""
    router = Router(config, run, outage_s=config.connect_timeout_s)
    try:
        counters = [shard.counters() for shard in router.shards]
    finally:
        router.close()
    names = ReplayStatus.__dataclass_fields__
    return ReplayStatus(**{name: sum(c.get(name, 0) for c in counters) for name in names})
