"""An algorithm's plan as data: stages, each with a kind, a budget and the gate that it must pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from distwm.gates import parse

Kind = Literal["collect", "train", "online", "analyse", "evaluate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineConfig:
    """How acting and learning take turns in a stage of kind "online"."""

    seed_episodes: int = 10  # played by `seed_policy` before the first update
    seed_policy: str = "random"
    warmup_updates: int = 0  # before the first episode of the stage's own policy
    updates_per_step: float = 1.0  # after the seed episodes: exact at the end of every turn
    overlap: bool = False  # collect the next episodes while learning from the last: faster, one turn older weights
    evaluate_every_steps: int = 0  # decisions between two evaluations on the way; 0 = none
    evaluate_episodes: int = 5
    evaluate_policies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.seed_episodes, self.warmup_updates, self.evaluate_every_steps, self.evaluate_episodes) < 0:
            raise ValueError("episodes, updates and steps of an online stage cannot be negative")
        if self.updates_per_step <= 0:
            raise ValueError("updates_per_step must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """One stage of a recipe. Its steps are episodes (collect), updates (train), decisions (online), the one look at
    held-out figures (analyse), or policies (evaluate)."""

    kind: Kind = "train"
    objective: str = ""  # train, online, analyse: which objective of the system; empty = the name of the stage
    policy: str = "behaviour"  # collect, online: who acts, "name" or "name:mode"
    rounds: Literal["all", "first", "later", "last"] = "all"  # the rounds that have this stage
    budget_steps: int = 0  # collect: episodes; train: updates; online: decisions, seed episodes included
    slice_steps: int = 100  # steps between two reports (and possible checkpoints); online: at most so many updates
    gate: Mapping[str, str] = field(default_factory=dict)  # held-out figure: threshold such as ">=0.95"; "" = no gate
    extend_steps: int = 0  # train: updates of one extension when the gate is not passed
    max_extensions: int = 0  # how often a stage may be extended
    online: OnlineConfig = field(default_factory=OnlineConfig)

    def __post_init__(self) -> None:
        if self.budget_steps < 0 or self.extend_steps < 0 or self.max_extensions < 0:
            raise ValueError("steps and extensions cannot be negative")
        if self.kind == "online" and self.max_extensions:
            raise ValueError("a stage of kind online cannot be extended: give it a larger budget_steps")
        if self.slice_steps < 1:
            raise ValueError("slice_steps must be at least 1")
        if self.kind == "analyse" and (self.max_extensions or self.budget_steps > 1):
            raise ValueError("a stage of kind analyse has one step: give it budget_steps=1, or 0 to leave it out")
        if self.max_extensions and not self.extend_steps:
            raise ValueError("max_extensions needs extend_steps")
        for threshold in filter(None, self.gate.values()):
            parse(threshold)

    @property
    def policies(self) -> tuple[str, ...]:
        """Who acts in this stage, besides those that the run evaluates."""
        online = (self.policy, self.online.seed_policy, *self.online.evaluate_policies)
        return {"collect": (self.policy,), "online": online}.get(self.kind, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """A stage in its round: what the pipeline executes, one after the other."""

    round: int
    name: str
    config: StageConfig

    @property
    def key(self) -> str:
        """`dynamics` in the first round, `dynamics@1` in the second: names the stage in records, seeds and results."""
        return f"{self.name}@{self.round}" if self.round else self.name

    @property
    def objective(self) -> str:
        return self.config.objective or self.name


def plan(stages: Mapping[str, StageConfig], rounds: int) -> list[PlannedStage]:
    """The concrete stages over all rounds, in order. A budget of 0 leaves a stage out, but for an evaluation."""
    return [
        PlannedStage(round=number, name=name, config=stage)
        for number in range(rounds)
        for name, stage in stages.items()
        if _belongs(stage, number, rounds)
    ]


def _belongs(stage: StageConfig, number: int, rounds: int) -> bool:
    if stage.kind != "evaluate" and not stage.budget_steps:
        return False
    return {"all": True, "first": number == 0, "later": number > 0, "last": number == rounds - 1}[stage.rounds]
