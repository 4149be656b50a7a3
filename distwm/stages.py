"""What one slice of a stage does, by the stage's kind. No algorithm is known here by name."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from actors.policies import PolicySpec
from actors.runner import EpisodeResult
from distwm.config import RunConfig
from distwm.crew import Crew
from distwm.evaluate import evaluate as play
from distwm.evaluate import policy_spec
from distwm.gates import Verdict, judge
from distwm.ledger import Ledger
from distwm.recipe import PlannedStage
from distwm.rundir import write_atomically
from distwm.videos import save_episodes
from replay.errors import TrainingFailed

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
    figures = crew.learners.gate()
    verdicts = judge(figures, stage.config.gate)
    _save_results(crew, stage, verdicts)
    crew.learners.finish()
    records.append({"kind": "gate", "step": ledger.done_steps, "verdict": _verdict(verdicts), **figures})
    passed = all(verdict.passed for verdict in verdicts.values())
    return records, passed or not _extended(crew.config, stage, ledger, verdicts)


def evaluate(crew: Crew, stage: PlannedStage, ledger: Ledger) -> Outcome:
    """All episodes of the next policy; every policy meets the same start states."""
    policies = crew.config.evaluate.policies
    name = policies[ledger.done_steps]
    policy = policy_spec(name)
    config = replace(crew.config.evaluate, policies=(name,))
    results = play(crew.fleet, config, crew.weights_for(policy))
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


def _verdict(verdicts: Mapping[str, Verdict]) -> str:
    """`r2 0.912 >=0.95 NOT passed, ...`, or nothing where there is no threshold."""
    words = {True: "passed", False: "NOT passed"}
    return ", ".join(f"{name} {v.value:.4g} {v.threshold} {words[v.passed]}" for name, v in verdicts.items())


def _extended(config: RunConfig, stage: PlannedStage, ledger: Ledger, verdicts: Mapping[str, Verdict]) -> bool:
    """Begins an extension if the stage has one left. Raises TrainingFailed if it has none and gates are strict."""
    failed = _verdict({name: verdict for name, verdict in verdicts.items() if not verdict.passed})
    if config.gates == "off":
        return False
    if ledger.extensions < stage.config.max_extensions:
        _log.warning("%s: %s; %d more updates", stage.key, failed, stage.config.extend_steps)
        ledger.extend()
        return True
    if config.gates == "strict":
        raise TrainingFailed(
            f"Stage {stage.key} does not pass its gate: {failed}.",
            f"Raise stages.{stage.name}.budget_steps, or set gates=extend to go on all the same.",
        )
    _log.warning("%s goes on without passing its gate: %s", stage.key, failed)
    return False


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


def _save_results(crew: Crew, stage: PlannedStage, verdicts: Mapping[str, Verdict]) -> None:
    path = crew.root / "results" / "gates.json"
    gates = json.loads(path.read_text()) if path.is_file() else {}
    gates[stage.key] = {name: asdict(verdict) for name, verdict in verdicts.items()}
    write_atomically(path, json.dumps(gates, indent=1))
    for name, arrays in crew.learners.exhibits().items():
        temporary = path.with_name(f".{name}.npz")
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
        temporary.replace(path.with_name(f"{name}.npz"))


_KINDS: Mapping[str, Callable[[Crew, PlannedStage, Ledger], Outcome]] = {
    "collect": collect,
    "train": train,
    "evaluate": evaluate,
}
