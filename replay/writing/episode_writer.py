"""A stream of one episode, which is stored once, whoever else tries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from replay.config import ReplayConfig
from replay.errors import TryAgain
from replay.schema import EpisodeSpec
from replay.shards.address import addresses
from replay.shards.stock import look_up
from replay.shards.survey import Surveyor
from replay.writing.writer import ReplayWriter


class EpisodeWriter(ReplayWriter):
    """Others that may be at the same episode: a process that died, whose last chunks wait on this machine's disk, and
    one that lives on though its driver is dead. What the first left is sent before it is looked whether the episode is
    there; the second looks before its last record whether a newer life has begun, and leaves it to that.
    """

    def __init__(self, config: ReplayConfig, run: str, stream: str, spec: EpisodeSpec) -> None:
        """As ReplayWriter; and raises TryAgain if the episode is whole in the replay."""
        super().__init__(config, run, stream, spec)
        if self.incarnation == 1:
            return
        try:
            self.flush()
            self._check_lacking(config, run, stream)
        except BaseException:
            self.close()
            raise

    def add(self, step: Mapping[str, np.ndarray], *, source: str, policy_version: int) -> None:
        """As ReplayWriter; and raises TryAgain at the end of an episode that somebody else has begun anew."""
        if step.get("is_last") and self.superseded():
            raise TryAgain(f"Somebody else plays the episode of stream {self._stream!r} by now.", "Leave it to them.")
        super().add(step, source=source, policy_version=policy_version)

    def _check_lacking(self, config: ReplayConfig, run: str, stream: str) -> None:
        shards = [Surveyor(u, run, config.connect_timeout_s, config.outage_s) for u in addresses(config.url)]
        try:
            if look_up(shards, [stream]):
                raise TryAgain(f"The episode of stream {stream!r} is whole in the replay.", "Play another one.")
        finally:
            for shard in shards:
                shard.close()
