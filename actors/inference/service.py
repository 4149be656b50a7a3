"""Inference actors under supervision: Ray starts one again that died, and this one that hangs."""

from __future__ import annotations

import logging
import time
from typing import Any, cast

import ray

from actors.inference.actor import HEALTH, InferenceActor
from actors.inference.config import InferenceConfig
from actors.inference.messages import Health
from actors.inference.remote import Inference
from learners.system import SystemConfig
from replay.schema import EpisodeSpec

_log = logging.getLogger(__name__)

LOOK_S = 1.0  # between two looks at an actor


class InferenceService:
    """`config.actors` inference actors. Weights come to them from the runners, when a request needs them."""

    def __init__(self, config: InferenceConfig, system: SystemConfig, spec: EpisodeSpec) -> None:
        """Starts them and does not wait for them. Ray must be initialised."""
        self.config = config
        remote = cast(Any, ray.remote)(  # whose types know no concurrency_groups
            num_cpus=config.cpus,
            num_gpus=config.gpus,
            max_restarts=-1,
            max_task_retries=0,  # what was remembered is gone: the runner decides
            concurrency_groups={HEALTH: 1},
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(max(1, int(config.cpus)))}},
        )(InferenceActor)
        self.handles: list[Any] = [remote.remote(config, system, spec) for _ in range(config.actors)]
        self._watches = [_Watch(number, handle, config) for number, handle in enumerate(self.handles)]

    @property
    def inference(self) -> Inference:
        return Inference(handles=tuple(self.handles), deadline_s=self.config.deadline_s)

    def look(self) -> None:
        """Call it now and then: replaces what hangs. Never blocks."""
        for watch in self._watches:
            watch.look()

    def figures(self) -> dict[str, float]:
        """Totals over the actors."""
        known = [watch.known for watch in self._watches if watch.known]
        batches = sum(health.batches for health in known)
        return {
            "inference_restarts": float(sum(watch.restarts for watch in self._watches)),
            "inference_batch": sum(health.decisions for health in known) / max(1, batches),
            "inference_remembered": float(sum(health.remembered for health in known)),
        }

    def close(self) -> None:
        for handle in self.handles:
            ray.kill(handle)


class _Watch:
    """Asks one actor how it is, a question at a time."""

    def __init__(self, number: int, handle: Any, config: InferenceConfig) -> None:
        self._number, self._handle, self._config = number, handle, config
        self.known: Health | None = None
        self.restarts = 0
        self._up = False  # a process that starts may take long
        self._question: ray.ObjectRef | None = None
        self._asked_s = -LOOK_S

    def look(self) -> None:
        now = time.monotonic()
        if self._question is not None:
            self._hear(self._question, now - self._asked_s)
        elif now - self._asked_s > LOOK_S:
            self._question, self._asked_s = self._handle.health.remote(), now

    def _hear(self, question: ray.ObjectRef, waited_s: float) -> None:
        ready, _ = ray.wait([question], timeout=0)
        if ready:
            self._question = None
            self._take(question)
        elif waited_s > self._config.deadline_s and self._up:
            self._replace("does not answer")

    def _take(self, question: ray.ObjectRef) -> None:
        try:
            health: Health = ray.get(question)
        except ray.exceptions.RayActorError:
            self._up = False  # Ray starts it again, and it answers then
            return
        if self.known is not None and health.pid != self.known.pid:
            self.restarts += 1
        self.known, self._up = health, True
        if health.busy_s > self._config.deadline_s:
            self._replace(f"has computed one batch for {health.busy_s:.0f} s")

    def _replace(self, why: str) -> None:
        _log.warning("inference actor %d %s; it is started again", self._number, why)
        self._up = False
        ray.kill(self._handle, no_restart=False)
