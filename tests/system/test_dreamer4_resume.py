"""kill -9 of the driver inside each stage of the real recipe, and the same command again."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from harness import Command, ledger_of, records

STAGES = ["collect", "tokenizer", "dynamics", "agent", "imagination", "control", "evaluate"]
LONGER = {"tokenizer": 120, "dynamics": 120, "agent": 120, "imagination": 60, "control": 60}  # time to be killed in
BUDGETS = [f"stages.{stage}.budget_steps={steps}" for stage, steps in LONGER.items()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_inside_every_stage(command: Command, tmp_path: Path) -> None:
    """One run, killed once in each of its stages: it still finishes, and nothing is done twice or left out."""
    run_dir = tmp_path / "run"
    words = ("dreamer4", "size=tiny", f"run_dir={run_dir}", "checkpoint_every_s=0", *BUDGETS)
    for stage in STAGES:
        reached = lambda stage=stage: any(r["stage"] == stage for r in records(run_dir))  # noqa: E731
        assert command.kill_when(reached, *words, timeout_s=200) == -signal.SIGKILL
    done = command(*words, timeout_s=300)
    assert done.returncode == 0, done.stderr + (run_dir / "log.txt").read_text()
    found = ledger_of(run_dir)
    assert len(found) == len(set(found))
    assert list(dict.fromkeys(stage for stage, _, _ in found)) == STAGES
    for stage in STAGES:
        steps = [step for name, kind, step in found if name == stage and kind != "stage_end"]
        assert steps == sorted(steps)
    assert json.loads((run_dir / "results" / "returns.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kills_while_training_leave_no_trace_in_the_weights(command: Command, tmp_path: Path) -> None:
    """The same experience, once without and once with kills: the final weights agree bit by bit."""
    words = ("dreamer4", "size=tiny", "checkpoint_every_s=0", "evaluate.policies=random", *BUDGETS)
    smooth, rough = tmp_path / "smooth", tmp_path / "rough"
    assert command(*words, f"run_dir={smooth}", timeout_s=300).returncode == 0
    for stage in ("tokenizer", "dynamics", "imagination"):
        reached = lambda stage=stage: any(r["stage"] == stage for r in records(rough))  # noqa: E731
        assert command.kill_when(reached, *words, f"run_dir={rough}", timeout_s=200) == -signal.SIGKILL
    assert command(*words, f"run_dir={rough}", timeout_s=300).returncode == 0
    one, other = (final_weights(run_dir) for run_dir in (smooth, rough))
    assert one == other


def final_weights(run_dir: Path) -> bytes:
    newest = max(path for path in (run_dir / "checkpoints").iterdir() if path.name[0].isdigit())
    return (newest / "learner" / "system.safetensors").read_bytes()
