"""What one slice of a stage does, by the stage's kind. No algorithm is known here by name."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from actors.policies import PolicySpec
from actors.results import EpisodeResult
from distwm.closing import close_stage
from distwm.config import RunConfig
from distwm.crew import Crew
from distwm.evaluate import evaluate as play
from distwm.evaluate import policy_spec
from distwm.ledger import Ledger
from distwm.online import OnlineStage
from distwm.recipe import PlannedStage
from distwm.rundir import write_atomically
from distwm.videos import save_episodes

Record = dict[str, Any]
Outcome = tuple[list[Record], bool]  # what to report, and whether the stage is finished

_log = logging.getLogger(__name__)


def run_slice(crew: Crew, stage: PlannedStage, ledger: Ledger) -> Outcome:
    """The next slice of `stage`; counts it in the ledger."""
    return _KINDS[stage.config.kind](crew, stage, ledger)


def total_steps(stage: PlannedStage, ledger: Ledger, config: RunConfig) -> int:
    """The stage's budget with the extensions begun so far."""
    return len(config.evaluate.policies) if stage.config.kind == "evaluate" else ledger.total_steps(stage)


def collect(crew: Crew, stage: PlannedStage, ledger: Ledger) -> Outcome:
    """The next episodes. Their numbers are consecutive over the whole run, and fix their start states."""
    count = min(stage.config.slice_steps, ledger.budget_steps(stage) - ledger.attempt_steps)
    policy = policy_spec(stage.config.policy)
    episodes = range(ledger.episodes, ledger.episodes + count)
    stats = crew.fleet.collect(policy, episodes, crew.weights_for(policy))
    ledger.episodes += count
    ledger.collected_steps += stats.steps
    ledger.count(count)
    ledger.collected_steps = crew.check_replay(ledger.collected_steps)
    record = {
        "kind": "collect",
        "step": ledger.done_steps,
        "steps": stats.steps,
        "mean_return": float(np.mean(stats.returns)),
        "steps_per_s": stats.steps_per_s,
        "retries": stats.retries,
        **{f"failures_env_{reason}": count for reason, count in stats.failures.items()},
    }
    return [record], ledger.attempt_steps >= ledger.budget_steps(stage)


def train(crew: Crew, stage: PlannedStage, ledger: Ledger) -> Outcome:
    """The next updates; after the last one the stage's gate, and an extension if that says so."""
    budget = ledger.budget_steps(stage)
    if ledger.attempt_steps == 0:
        crew.learners.begin(ledger.attempt(stage), stage.objective, budget)
    count = min(stage.config.slice_steps, budget - ledger.attempt_steps)
    figures = crew.learners.update(count)
    ledger.count(count)
    records: list[Record] = [{"kind": "update", "step": ledger.done_steps, **figures}]
    if ledger.attempt_steps < budget:
        return records, False
    record, finished = close_stage(crew, stage, ledger)
    return [*records, record], finished


def analyse(crew: Crew, stage: PlannedStage, ledger: Ledger) -> Outcome:
    """No updates: the objective prepares, and its held-out figures are taken."""
    crew.learners.begin(ledger.attempt(stage), stage.objective, 1)
    ledger.count(1)
    record, finished = close_stage(crew, stage, ledger)
    return [record], finished


def online(crew: Crew, stage: PlannedStage, ledger: Ledger) -> Outcome:
    """The next turn of acting and learning."""
    return OnlineStage(crew, stage, ledger).turn()


def evaluate(crew: Crew, stage: PlannedStage, ledger: Ledger) -> Outcome:
    """All episodes of the next policy; every policy meets the same start states."""
    policies = crew.config.evaluate.policies
    name = policies[ledger.done_steps]
    policy = policy_spec(name)
    config = replace(crew.config.evaluate, policies=(name,))
    results = play(crew.fleet, config, crew.weights_for(policy), ledger.explored)
    _save_returns(crew, stage, policy, results)
    save_episodes(crew.root / "videos", results)
    ledger.count(1)
    record = {
        "kind": "evaluate",
        "step": ledger.done_steps,
        "policy": name,
        "episodes": len(results),
        "mean_return": float(np.mean([result.total_reward for result in results])),
    }
    return [record], ledger.done_steps == len(policies)


def _save_returns(crew: Crew, stage: PlannedStage, policy: PolicySpec, results: Sequence[EpisodeResult]) -> None:
    """Adds the results to results/returns.json, in place of those of an interrupted attempt."""
    path = crew.root / "results" / "returns.json"
    rows = json.loads(path.read_text()) if path.is_file() else []
    mine = {"round": stage.round, "policy": policy.name, "mode": policy.mode}
    rows = [row for row in rows if any(row[key] != value for key, value in mine.items())]
    rows += [
        {"round": stage.round, **{f.name: getattr(result, f.name) for f in fields(result) if f.name != "frames"}}
        for result in results
    ]
    write_atomically(path, json.dumps(rows))


_KINDS: Mapping[str, Callable[[Crew, PlannedStage, Ledger], Outcome]] = {
    "collect": collect,
    "train": train,
    "online": online,
    "analyse": analyse,
    "evaluate": evaluate,
}
