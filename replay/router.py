"""Several Redis servers as one replay: a stream always lands on the same one. One server is the usual case."""

from __future__ import annotations

import hashlib

from replay.config import ReplayConfig
from replay.errors import BadInput
from replay.schema import EpisodeSpec
from replay.shard import Shard


class Router:
    """The shards of a run and the rule that assigns streams to them."""

    def __init__(self, config: ReplayConfig, run: str, outage_s: float | None = None) -> None:
        """Connects to every shard of `config.url`. `outage_s` overrides that of the configuration."""
        urls = [u.strip() for u in config.url.split(",") if u.strip()]
        if not urls:
            raise BadInput("replay.url is empty here.", "Start an EmbeddedRedis and set replay.url to what it returns.")
        if len(set(urls)) < len(urls):
            raise BadInput("replay.url names a server twice.", "Name each server once.")
        outage = config.outage_s if outage_s is None else outage_s
        self.shards = tuple(Shard(u, run, min(config.connect_timeout_s, outage), outage) for u in urls)
        self.max_bytes = config.max_bytes // len(self.shards)  # of each shard

    def shard(self, stream: str) -> Shard:
        """Rendezvous hashing: of N servers, adding or removing one moves only the streams of that one."""
        return max(self.shards, key=lambda s: hashlib.blake2b(f"{s.name} {stream}".encode()).digest())

    def register(self, spec: EpisodeSpec) -> None:
        """Raises BadInput if the run has another spec."""
        for shard in self.shards:
            shard.register(spec)

    def close(self) -> None:
        for shard in self.shards:
            shard.close()
