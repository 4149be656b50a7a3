"""Several learners that act as one: Ray actors whose gradients are averaged. A group of one needs no peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch.distributed as dist
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from learners import collective
from learners.device import pick_device
from learners.learner import Learner, LearnerConfig
from learners.system import Metrics, SystemConfig
from replay.errors import DistwmError, TryAgain
from replay.schema import EpisodeSpec
from replay.source import Source

HEARTBEAT_S = 5.0  # between two questions after progress
FETCH_TIMEOUT_S = 120.0  # for a result that is there already


@ray.remote(concurrency_groups={"health": 1})  # type: ignore[call-overload]
class LearnerActor:
    """A Learner in a process of its own. Its calls run one after another; `doing` answers meanwhile."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self._learner: Learner | None = None
        self._store: dist.TCPStore | None = None

    def listen(self, timeout_s: float) -> tuple[str, int]:
        """Host and port where the group meets."""
        self._store = collective.listen(self.world, timeout_s)
        return ray.util.get_node_ip_address(), self._store.port

    def build(
        self,
        config: LearnerConfig,
        system: SystemConfig,
        spec: EpisodeSpec,
        source: Callable[[], Source],
        seed: int,
        meeting: tuple[str, int] | None,
    ) -> None:
        if meeting:
            device = pick_device(config.device)
            collective.join(*meeting, self.rank, self.world, device, config.stall_timeout_s)
        self._learner = Learner(config, system, spec, source, seed, self.rank, self.world)

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._learner, method)(*arguments)

    @ray.method(concurrency_group="health")
    def doing(self) -> str:
        """What the learner is at; changes as long as there is progress."""
        return self._learner.doing if self._learner else "starting"


class LearnerGroup:
    """The methods of a Learner, carried out by `config.group` actors; see there.

    A wait has no fixed end but ends when nothing has moved for `stall_timeout_s` (TryAgain says what stood still).
    An expected failure of any learner is raised as it is; the death of its process as a RayActorError, so that who
    supervises the run starts it again from the last checkpoint. After either the group is closed.
    """

    def __init__(
        self,
        config: LearnerConfig,
        system: SystemConfig,
        spec: EpisodeSpec,
        source: Callable[[], Source],
        seed: int,
        *,
        cpus: float = 1.0,
        gpus: float = 0.0,
        start_timeout_s: float = 180.0,
    ) -> None:
        """`cpus` and `gpus` of each learner. Raises TryAgain if Ray does not start them within `start_timeout_s`."""
        self.config, world = config, config.group
        options = LearnerActor.options(  # type: ignore[attr-defined]
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=0,  # a fresh process would have fresh weights
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(config.threads)}},
        )
        self._actors = [options.remote(rank, world) for rank in range(world)]
        self._started(f"{cpus:g} CPUs and {gpus:g} GPUs for each of {world} learners", start_timeout_s)
        meeting = None
        if world > 1:
            meeting = self._wait([self._actors[0].listen.remote(config.stall_timeout_s)])[0]
        mine = config if gpus or config.device != "auto" else replace(config, device="cpu")
        self._wait([actor.build.remote(mine, system, spec, source, seed, meeting) for actor in self._actors])

    def begin(self, stage: str, objective: str, total_updates: int) -> None:
        self._all("begin", stage, objective, total_updates)

    def update(self, updates: int) -> Metrics:
        """Means over the learners."""
        figures: list[Metrics] = self._all("update", updates)
        names = dict.fromkeys(name for each in figures for name in each)
        return {name: float(np.mean([each[name] for each in figures if name in each])) for name in names}

    def refresh(self) -> None:
        """Learners hear of new experience; see Learner.refresh."""
        self._all("refresh")

    def gate(self) -> Metrics:
        return self._first("gate")

    def exhibits(self) -> dict[str, dict[str, np.ndarray]]:
        return self._first("exhibits")

    def finish(self) -> None:
        self._all("finish")

    def save(self, directory: Path) -> None:
        """Learners agree bit by bit, so the first one saves. The directory is one that its node can write."""
        self._first("save", directory.resolve())

    def load(self, directory: Path) -> None:
        """The directory is one that every learner's node can read."""
        self._all("load", directory.resolve())

    def weights(self) -> ObjectRef:
        """A reference to Weights in the object store, for any number of readers; they do not pass through here."""
        ref = self._actors[0].call.remote("weights")
        self._wait([ref], fetch=False)
        return ref

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return self._wait([actor.call.remote(method, *arguments) for actor in self._actors])

    def _first(self, method: str, *arguments: Any) -> Any:
        return self._wait([self._actors[0].call.remote(method, *arguments)])[0]

    def _started(self, wanted: str, timeout_s: float) -> None:
        try:
            ray.get([actor.doing.remote() for actor in self._actors], timeout=timeout_s)
        except GetTimeoutError as error:
            self.close()
            raise TryAgain(
                f"Ray did not start the learners within {timeout_s:g} s; asked for {wanted}.",
                "Free some of the cluster or ask for less (cluster.cpus_per_learner, learner.group).",
            ) from error

    def _wait(self, refs: Sequence[ObjectRef], fetch: bool = True) -> list[Any]:
        """The results, in order. The first failure ends the group: its peers would wait for a learner that is gone."""
        try:
            self._await_progress(refs, fetch)
            return ray.get(list(refs), timeout=FETCH_TIMEOUT_S) if fetch else []
        except RayTaskError as error:
            self.close()
            if isinstance(error.cause, DistwmError):
                raise error.cause from error
            raise
        except (RayError, TryAgain):
            self.close()
            raise

    def _await_progress(self, refs: Sequence[ObjectRef], fetch: bool) -> None:
        pending, seen, moved_s = list(refs), "", time.monotonic()
        while pending:
            ready, pending = ray.wait(pending, timeout=HEARTBEAT_S, fetch_local=fetch)
            if fetch and ready:
                ray.get(ready, timeout=FETCH_TIMEOUT_S)  # raises what they raised
            if ready or not pending:
                continue
            now = self._pulse() or seen
            if now != seen:
                seen, moved_s = now, time.monotonic()
            elif time.monotonic() - moved_s > self.config.stall_timeout_s:
                raise TryAgain(
                    f"No learner made progress for {self.config.stall_timeout_s:g} s; they were at: {seen or '?'}.",
                    "Run the same command again: it resumes. Raise learner.stall_timeout_s if this work takes so long.",
                )

    def _pulse(self) -> str:
        """What the learners are at, or nothing if one of them does not say; then the calls themselves will tell why."""
        try:
            return "; ".join(ray.get([actor.doing.remote() for actor in self._actors], timeout=HEARTBEAT_S))
        except RayError:
            return ""
