"""The Ray actor around one EnvRunner. It answers how far it is while it works: in a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from actors.results import CollectStats, EpisodeResult
from actors.runner import EnvRunner
from replay.errors import DistwmError

HEALTH = "health"  # the concurrency group that answers while a call works


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a runner is. `steps` and `failures` never go back while the process lives."""

    steps: int  # of its environments
    version: int  # of its weights; -1: none
    doing: str
    storing: bool = False  # it waits for the replay
    failures: Mapping[Any, int] = field(default_factory=dict)  # of its environments, by reason
    pid: int = 0
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of a call, and how far the runner is after it. An error of ours is no exception here."""

    result: CollectStats | tuple[EpisodeResult, ...] | None
    error: DistwmError | None
    progress: Progress

    @property
    def steps(self) -> int:
        """Records acknowledged, or decisions of an evaluation."""
        if isinstance(self.result, CollectStats):
            return self.result.steps
        return sum(result.length for result in self.result or ())

    @property
    def episodes(self) -> int:
        return self.result.episodes if isinstance(self.result, CollectStats) else len(self.result or ())


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

    def work(self, task: str, weights: Any, lent: Sequence[ray.ObjectRef | None] = (), **arguments: Any) -> Attempt:
        """`collect` or `evaluate` of the runner, with these weights; `lent` holds the reference to them, which Ray
        would have resolved if it had come by itself."""
        result, error = None, None
        try:
            if weights is not None:
                self._runner.set_weights(weights, *lent)
            result = getattr(self._runner, task)(**arguments)
        except DistwmError as caught:
            error = caught
        result = tuple(result) if isinstance(result, list) else result
        return Attempt(result=result, error=error, progress=self._progress())

    def close(self) -> None:
        """Sends what waits to the replay, and ends the environments."""
        self._runner.close()

    def _progress(self) -> Progress:
        runner = self._runner
        return Progress(
            steps=runner.steps,
            version=runner.version,
            doing=runner.doing,
            storing=runner.storing,
            failures={f"env_{kind}": count for kind, count in runner.failures.items()},
            pid=os.getpid(),
            node=self._node,
        )
