"""How many runners a fleet has, what each part of it plays, and how much trouble is borne."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig
from actors.inference.config import InferenceConfig
from actors.sources.source import SourceConfig
from replay.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """How many runners there are, what they ask of Ray, and how much trouble is borne."""

    runners: int = 2
    cpus_per_runner: float = 1.0
    call_timeout_s: float = 3600.0  # for one piece of work, however well it gets on; waiting for the replay apart
    stall_s: float = 120.0  # without a step of a busy runner, which is replaced; at least reset_s, or a source's answer
    restart_timeout_s: float = 120.0  # how long work waits for a runner while none is up
    max_restarts: int = -1  # of each runner; -1: no limit
    max_retries: int = 3  # of each piece of work
    backoff_s: float = 1.0  # before a runner that failed starts again; twice as long each time it fails in a row
    backoff_limit_s: float = 60.0
    quarantine_after: int = 3  # pieces that a runner fails in a row before it is set aside
    quarantine_s: float = 300.0  # until it is tried again, with one piece
    inference: InferenceConfig = field(default_factory=InferenceConfig)

    def __post_init__(self) -> None:
        at_least_one = ("runners", "quarantine_after")
        above_zero = ("call_timeout_s", "stall_s", "restart_timeout_s")
        not_negative = ("cpus_per_runner", "max_retries", "backoff_s", "backoff_limit_s", "quarantine_s")
        for names, ok, wanted in (
            (at_least_one, lambda value: value >= 1, "1 or more"),
            (above_zero, lambda value: value > 0, "above 0"),
            (not_negative, lambda value: value >= 0, "0 or more"),
            (("max_restarts",), lambda value: value >= -1, "-1 (no limit) or more"),
        ):
            for name in names:
                if not ok(getattr(self, name)):
                    raise BadInput(
                        f"fleet.{name} is {getattr(self, name)!r}.", f"Set fleet.{name} to a value {wanted}."
                    )

    def backoff(self, failures: int, luck: float) -> float:
        """Seconds before the next start after so many failures in a row. `luck` in [0, 1) spreads those that failed
        together over the second half of the time."""
        longest = min(self.backoff_limit_s, self.backoff_s * 2.0 ** min(max(failures, 1) - 1, 60))
        return longest * (0.5 + 0.5 * luck)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One environment of a fleet, and the run of the replay that takes its episodes. Environments whose steps have
    other fields need another run each."""

    env: EnvConfig
    run: str
    runners: int = 1
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    source: SourceConfig = field(default_factory=SourceConfig)

    def __post_init__(self) -> None:
        if self.runners < 1:
            raise BadInput(f"{self.env.task} has {self.runners} runners.", "Give it 1 or more.")
