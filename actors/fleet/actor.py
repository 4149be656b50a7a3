"""The Ray actor around one EnvRunner. It answers how far it is while it works: in a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from actors.runner import CollectStats, EnvRunner, EpisodeResult

HEALTH = "health"  # the concurrency group that answers while a call works


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a runner is. `steps` never goes back while the process lives."""

    steps: int  # of its environments
    version: int  # of its weights; -1: none
    doing: str
    pid: int
    node: str


class RunnerActor:
    """`apply` and `ping` are what FaultTolerantActorManager calls."""

    def __init__(self, factory: Callable[[], EnvRunner]) -> None:
        self._runner = factory()
        self._node = ray.get_runtime_context().get_node_id()

    def apply(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        return func(self, *args, **kwargs)

    def ping(self) -> str:
        return self._runner.ping()

    @ray.method(concurrency_group=HEALTH)
    def progress(self) -> Progress:
        """Answers at once, whatever the runner is at."""
        return self._progress()

    def _progress(self) -> Progress:
        return Progress(
            steps=getattr(self._runner, "steps", 0),
            version=getattr(self._runner, "version", -1),
            doing=getattr(self._runner, "doing", ""),
            pid=os.getpid(),
            node=self._node,
        )

    def work(
        self, task: str, weights: Any, **arguments: Any
    ) -> tuple[CollectStats | tuple[EpisodeResult, ...], Progress]:
        """`collect` or `evaluate` of the runner, with these weights; and how far it is then."""
        if weights is not None:
            self._runner.set_weights(weights)
        result = getattr(self._runner, task)(**arguments)
        return (tuple(result) if task == "evaluate" else result), self._progress()

    def close(self) -> None:
        """Sends what waits to the replay, and ends the environments."""
        self._runner.close()
