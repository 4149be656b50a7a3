"""What a fleet is asked to do, what comes of it, and what it says of its runners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, get_args

import ray

from actors.hosting.errors import HostedEnvError
from actors.inference import InferenceError
from actors.policies import PolicySpec
from actors.results import CollectStats, EpisodeResult
from replay.errors import DistwmError

Task = Literal["collect", "evaluate"]
State = Literal["starting", "idle", "busy", "waiting", "quarantined", "retiring"]
Reason = Literal[
    "died", "stalled", "overdue", "env_died", "env_timeout", "env_raised", "env_memory", "inference", "error"
]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One call of one runner: it plays these episodes, `envs_per_runner` at a time."""

    task: Task = "collect"
    policy: PolicySpec
    numbers: tuple[int, ...]  # of the episodes; for `evaluate` the seeds
    weights: ray.ObjectRef | None = None
    version: int = -1  # of these weights, if known: lets the fleet say how far runners lag behind
    member: int = 0
    keep_frames: int = 0  # `evaluate`: of the first episodes
    label: Any = None  # the caller's own

    def __str__(self) -> str:
        return f"{self.task} of episodes {self.numbers[0]} to {self.numbers[-1]} with {self.policy.name!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a work: a result, or the error after which it was not tried again."""

    work: Work
    runner: int  # index of the last one that had it; -1: none
    stats: CollectStats | None = None  # of `collect`
    results: tuple[EpisodeResult, ...] = ()  # of `evaluate`
    error: DistwmError | None = None
    retries: int = 0
    seconds: float = 0.0  # of the call that succeeded


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStatus:
    """How one runner is. Its process may be another one than last time."""

    index: int  # its streams in the replay are runner<index>/env<n>
    member: int
    task: str  # of its environment
    state: State  # waiting: to be started again; starting: also until Ray has the CPUs
    doing: str = ""  # the work, or what it waits for
    steps: int = 0  # of finished works: records acknowledged, or decisions of evaluations
    episodes: int = 0
    steps_per_s: float = 0.0  # of the environment, over the last half minute
    version: int = -1  # of its weights; -1: none
    lag: int = 0  # versions behind the newest one that the fleet knows
    lag_s: float = 0.0  # how long a newer one has been known
    restarts: int = 0
    failures: Mapping[Reason, int] = field(default_factory=dict)
    last_error: str = ""
    again_s: float = 0.0  # until it is started (waiting) or tried (quarantined) again; -1: never
    pid: int = 0
    node: str = ""


def total(parts: Sequence[CollectStats], seconds: float, retries: int) -> CollectStats:
    """Of pieces in the order of their episodes, played within so many seconds."""
    return CollectStats(
        steps=sum(part.steps for part in parts),
        episodes=sum(part.episodes for part in parts),
        returns=tuple(chain.from_iterable(part.returns for part in parts)),
        seconds=seconds,
        retries=retries,
        lengths=tuple(chain.from_iterable(part.lengths for part in parts)),
        successes=tuple(chain.from_iterable(part.successes for part in parts)),
        env_steps=sum(part.env_steps for part in parts),
        failures=dict(sum((Counter(part.failures) for part in parts), Counter[str]())),
    )


def reason_of(error: Exception) -> Reason:
    """Why a call failed, by what it raised."""
    cause = cause_of(error)
    if isinstance(cause, HostedEnvError):
        return f"env_{cause.kind}"  # type: ignore[return-value]
    if isinstance(cause, InferenceError):
        return "inference"
    lost = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)
    return "died" if isinstance(cause, lost) else "error"


def cause_of(error: Exception) -> Exception:
    """What a method raised, without what Ray wraps around it."""
    return getattr(error, "cause", error)
