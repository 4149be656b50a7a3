"""The processes that do the work of a run: learners and environment runners, started when they are first needed."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from actors.fleet import Fleet, Member
from actors.policies import PolicySpec
from distwm.config import RunConfig
from distwm.fleet import STATUS, save_status, take_request
from distwm.placement import Shares
from distwm.records import records_of
from learners.group import LearnerGroup
from replay.config import ReplayConfig
from replay.errors import TryAgain
from replay.schema import EpisodeSpec
from replay.shards.status import status
from replay.sources.limited import LimitedSource
from replay.sources.opening import discard_arenas, open_source

_log = logging.getLogger(__name__)


class Crew:
    """Knows how to build and end the workers; what they do is the stages' business."""

    def __init__(self, config: RunConfig, run: str, root: Path, share: Shares) -> None:
        self.config, self.run, self.root, self.share = config, run, root, share
        take_request(root)  # one that came too late for the run before is not meant for this one

    @cached_property
    def spec(self) -> EpisodeSpec:
        return records_of(self.config)

    @cached_property
    def learners(self) -> LearnerGroup:
        config = self.config
        return LearnerGroup(
            config.learner,
            config.system,
            self.spec,
            partial(_open, config.replay, self.run, self.spec),
            config.seed,
            cpus=self.share.learner_cpus,
            gpus=self.share.learner_gpus,
            start_timeout_s=config.cluster.start_timeout_s,
        )

    @cached_property
    def fleet(self) -> Fleet:
        config = self.config
        return Fleet(
            replace(
                config.fleet,
                cpus_per_runner=self.share.runner_cpus,
                inference=replace(config.fleet.inference, cpus=self.share.inference_cpus),
            ),
            [self._member],
            runner=config.runner,
            replay=config.replay,
            system=config.system,
            seed=config.seed,
            extra_cpus=0.0 if self.share.runner_cpus < config.fleet.cpus_per_runner else None,  # they share there
        )

    @property
    def _member(self) -> Member:
        config = self.config
        runners, behaviour, source = config.fleet.runners, config.behaviour, config.source
        return Member(env=config.env, run=self.run, runners=runners, behaviour=behaviour, source=source)

    def look_after_fleet(self) -> dict[str, float]:
        """Takes a request for more or fewer runners, and writes down how they are; returns the figures of the fleet,
        none before there are any."""
        if "fleet" not in self.__dict__:
            return {}
        if runners := take_request(self.root):
            self.fleet.resize(runners)
        return save_status(self.root / STATUS, self.fleet)

    def weights_for(self, policy: PolicySpec) -> Any:
        """A reference to the newest weights if the policy has any."""
        return None if policy.weightless else self.learners.weights()

    def check_replay(self, collected_steps: int) -> int:
        """Waits until the replay counts every step that it acknowledged; returns how many those are, with
        `replay.on_loss` = continue how many are left. Raises TryAgain if some are missing, or if a server stays away
        for `replay.outage_s`."""
        if self.config.replay.on_loss == "continue":
            return self.recount_replay(collected_steps)
        deadline = time.monotonic() + self.config.replay.outage_s
        while (stored := self._stored_steps(deadline)) < collected_steps:
            if time.monotonic() > deadline:
                raise _lost(stored, collected_steps)
            time.sleep(0.1)
        return collected_steps

    def inserted_steps(self) -> int:
        """Every step that this run ever stored, whoever wrote it. Raises TryAgain as `check_replay` does."""
        return self._stored_steps(time.monotonic() + self.config.replay.outage_s)

    def recount_replay(self, collected_steps: int) -> int:
        """The steps that a resumed run can count on. A power cut may have cost the last ones; that is logged.

        Raises TryAgain if most of them are gone: then this is not the Redis that holds the run. With `replay.on_loss` =
        continue that is accepted as well.
        """
        stored = self._stored_steps(time.monotonic() + self.config.replay.outage_s)
        if stored < collected_steps / 2 and self.config.replay.on_loss == "stop":
            raise _lost(stored, collected_steps)
        if stored < collected_steps:
            _log.warning("the replay has lost %d of %d steps", collected_steps - stored, collected_steps)
        return min(stored, collected_steps)

    def _stored_steps(self, deadline: float) -> int:
        while True:
            try:
                return status(self.config.replay, self.run).inserted_steps
            except TryAgain:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def close(self) -> None:
        for name in ("fleet", "learners"):
            worker = self.__dict__.pop(name, None)
            if worker is not None:
                worker.close()
                if name == "learners":
                    discard_arenas(self.config.replay, self.run)  # on other nodes: the next run


def _open(replay: ReplayConfig, run: str, spec: EpisodeSpec) -> LimitedSource:
    """What a learner draws from; called where it runs."""
    return LimitedSource(open_source(replay, run, spec), replay, run)


def _lost(stored: int, collected: int) -> TryAgain:
    return TryAgain(
        f"The replay counts {stored} of the {collected} steps that this run has collected.",
        "Bring back the Redis that holds this run, or start again in a new run_dir.",
    )
