"""What a run has left so far, read for its report. Anything may be missing: a run under way has a report too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import yaml

from distwm.contest import Contest
from distwm.returns import Episodes, by_policy, milestones_by_policy, of_last_stage, solved_by_policy
from replay.errors import BadInput

Record = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]


# What stages about action tokenizers leave, and the arrays in it.
TOKENS: Mapping[str, tuple[str, ...]] = {
    "rvq_layers": ("layers", "ratio", "mse_norm", "std_norm", "usage", "perplexity"),
    "rvq_usage": ("counts",),
    "bands_layers": ("bits", "mse_arm", "mse_gripper"),
    "rvq_examples": ("original", "reconstructed"),
    "rate_distortion": ("rvq_bits", "rvq_mse_norm"),
    "hypotheses": ("names", "gate", "mean", "low", "high", "verdict"),
    "layers_by_phase": ("phases", "counts", "mean", "chunks"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFindings:
    """The files of a run directory, parsed."""

    root: Path
    config: Mapping[str, Any]  # config.yaml; empty if it is not there
    config_text: str
    records: list[Record]  # metrics.jsonl
    played: Mapping[tuple[str, str], Episodes]  # results/returns.json of the last round
    solved: Mapping[tuple[str, str], list[bool]]  # whether each of these episodes did it, where the suite says so
    milestones: Mapping[tuple[str, str], list[Mapping[str, bool]]]  # which each of them reached, likewise
    gates: Mapping[str, Mapping[str, Record]]  # results/gates.json: stage -> metric -> value, threshold, passed
    open_loop: Arrays | None
    reconstruction: Arrays | None
    evaluations: list[Record]  # results/curve.json: those on the way, in the last round
    prediction: Arrays | None
    code_usage: Arrays | None
    tokens: Mapping[str, Arrays]  # of TOKENS, those there are

    @property
    def task(self) -> str:
        return str(self.config.get("env", {}).get("task", "unknown task"))

    @property
    def provenance(self) -> str:
        """Whose actions the newest artefact of a tokenizer was fitted to, in words."""
        paths = sorted((self.root / "artefacts").glob("*/metrics.json"), key=lambda path: path.stat().st_mtime)
        return str(_json(paths[-1]).get("data", {}).get("provenance", "")) if paths else ""

    @property
    def contest(self) -> Contest:
        return Contest.of(self.config)

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    def stages(self) -> list[str]:
        """The stages that have begun, in order."""
        return list(dict.fromkeys(r["stage"] for r in self.records if "stage" in r))

    def wall_s(self) -> dict[str, float]:
        """Seconds by stage: what its end says, else the sum of its slices (whose records repeat the slice's time)."""
        ended: dict[str, float] = {r["stage"]: r["wall_s"] for r in self.records if r.get("kind") == "stage_end"}
        slices = {(r.get("stage"), r.get("slice")): r.get("wall_s") or 0.0 for r in self.records}
        return {
            stage: ended.get(stage, sum(wall for (name, _), wall in slices.items() if name == stage))
            for stage in self.stages()
        }

    def curve(self, stage: str, figure: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of a figure of a stage's updates or collection, where it is a number."""
        of_stage = [r for r in self.records if r.get("stage") == stage and r.get("kind") in ("update", "collect")]
        points = [(r["step"], r[figure]) for r in of_stage if isinstance(r.get(figure), int | float)]
        steps, values = np.array(points, np.float64).reshape(-1, 2).T
        return steps, values


def read_run(root: Path) -> RunFindings:
    """Raises BadInput if `root` is not a run directory, or one of its files is damaged."""
    if not root.is_dir():
        raise BadInput(f"There is no directory {root}.", "Give the directory of a run, such as runs/dreamer4-....")
    config_text = _text(root / "config.yaml")
    if not config_text and not (root / "results").is_dir():
        raise BadInput(f"{root} holds no run.", "Give a directory with config.yaml or results/.")
    results = root / "results"
    played = _json(results / "returns.json") or []
    return RunFindings(
        root=root,
        config=_parsed(yaml.safe_load, config_text, root / "config.yaml") or {},
        config_text=config_text,
        records=_json_lines(root / "metrics.jsonl"),
        played=by_policy(played),
        solved=solved_by_policy(played),
        milestones=milestones_by_policy(played),
        gates=_json(results / "gates.json") or {},
        open_loop=_arrays(results / "open_loop.npz", ("truth", "prediction", "context")),
        reconstruction=_arrays(results / "reconstruction.npz", ("truth", "reconstruction")),
        evaluations=of_last_stage(_json(results / "curve.json") or []),
        prediction=_arrays(results / "prediction.npz", ("horizon", "error", "marginal", "reward_error")),
        code_usage=_arrays(results / "code_usage.npz", ("usage",)),
        tokens=_tokens(results),
    )


def _tokens(results: Path) -> dict[str, Arrays]:
    found = {name: _arrays(results / f"{name}.npz", needed) for name, needed in TOKENS.items()}
    return {name: arrays for name, arrays in found.items() if arrays is not None}


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _parsed(parse: Any, text: str, path: Path) -> Any:
    try:
        return parse(text)
    except (ValueError, yaml.YAMLError) as error:
        raise BadInput(
            f"{path} cannot be read: {error}.", "Delete it, and run the stage again that writes it."
        ) from error


def _json(path: Path) -> Any:
    text = _text(path)
    return _parsed(json.loads, text, path) if text else None


def _json_lines(path: Path) -> list[Record]:
    """The whole lines: the last one may be cut while the run goes on."""
    lines = _text(path).splitlines()
    return [_parsed(json.loads, line, path) for line in lines if line.startswith("{") and line.endswith("}")]


def _arrays(path: Path, needed: tuple[str, ...]) -> Arrays | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise BadInput(f"{path} cannot be read: {error}.", "Delete it: the report does without.") from error
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise BadInput(f"{path} lacks {', '.join(missing)}.", "Delete it: the report does without.")
    return arrays
