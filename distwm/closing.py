"""The end of a stage that trains: its gate, what it leaves for the report, and an extension if the gate asks for it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import ray

from distwm.config import RunConfig
from distwm.crew import Crew
from distwm.gates import Verdict, judge
from distwm.ledger import Ledger
from distwm.recipe import PlannedStage
from distwm.records import provenance_of
from distwm.rundir import write_atomically
from replay.errors import TrainingFailed

_log = logging.getLogger(__name__)


def close_stage(crew: Crew, stage: PlannedStage, ledger: Ledger) -> tuple[dict[str, Any], bool]:
    """The record of the gate, and whether the stage is finished. Raises TrainingFailed as `gates` says."""
    figures = crew.learners.gate()
    verdicts = judge(figures, stage.config.gate)
    _save_results(crew, stage, verdicts)
    crew.learners.finish()
    _export(crew, stage, figures)
    record = {"kind": "gate", "step": ledger.done_steps, "verdict": _verdict(verdicts), **figures}
    passed = all(verdict.passed for verdict in verdicts.values())
    return record, passed or not _extended(crew.config, stage, ledger, verdicts)


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


def _export(crew: Crew, stage: PlannedStage, figures: Mapping[str, float]) -> None:
    """What others can load, of a system that can be exported: `artefacts/<stage>` of the run."""
    if export := getattr(crew.config.system, "export", None):
        weights = ray.get(crew.learners.weights(), timeout=crew.config.cluster.start_timeout_s)
        directory = crew.root / "artefacts" / stage.key
        directory.parent.mkdir(exist_ok=True)
        export(crew.spec, weights, directory, dict(figures), provenance_of(crew.config, crew.root))


def _save_results(crew: Crew, stage: PlannedStage, verdicts: Mapping[str, Verdict]) -> None:
    path = crew.root / "results" / "gates.json"
    gates = json.loads(path.read_text()) if path.is_file() else {}
    gates[stage.key] = {name: asdict(verdict) for name, verdict in verdicts.items()}
    write_atomically(path, json.dumps(gates, indent=1))
    for name, arrays in crew.learners.exhibits().items():
        temporary = path.with_name(f".{name}.npz")
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
        temporary.replace(path.with_name(f"{name}.npz"))
