"""kill -9 of the real online recipe in its phases, and the same command again: everything that counts goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from harness import Command, records

from learners import checkpoint

SEEDS, WARMUP, BUDGET, EVERY = 3, 20, 400, 80  # EVERY: decisions between evaluations
PARTS = ("world", "critics", "policy")
WORDS = (
    "dcmpc",
    "size=tiny",
    "checkpoint_every_s=0",
    "evaluate.policies=mppi:mode",
    f"stages.learn.budget_steps={BUDGET}",
    "stages.learn.slice_steps=10",
    "log.tensorboard=false",
)


def learning(run_dir: Path) -> list[dict[str, Any]]:
    """The records of the stage in order; what a resumed run did again comes once."""
    rows = {(r["slice"], r["kind"], r.get("policy")): r for r in records(run_dir) if r["stage"] == "learn"}
    return sorted(rows.values(), key=lambda row: row["slice"])


def saved(run_dir: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, set[int]]]:
    """(ledger, progress of the learner, how many updates its parameters have had, by part) of the newest checkpoint in
    which the stage goes on."""
    for done in sorted((run_dir / "checkpoints").glob(f"[0-9]*/{checkpoint.DONE}"), reverse=True):
        found = checkpoint.load(done.parent / "learner")
        if found.state["run"]:
            steps = {name: int(x) for name, x in found.tensors["optimiser"].items() if name.endswith("/step")}
            parts = {part: {n for name, n in steps.items() if name.startswith(part)} for part in PARTS}
            return json.loads((done.parent / "ledger.json").read_text()), found.state["run"], parts
    raise AssertionError("no checkpoint of the stage")


def check(run_dir: Path) -> dict[str, Any]:
    """Learner, optimisers and ledger of the newest checkpoint count the same. Returns the ledger."""
    ledger, progress, parts = saved(run_dir)
    turns, updates = ledger["turns"], progress["step"]
    assert turns["updates"] == updates
    assert parts == {"world": {updates}, "critics": {updates}, "policy": {updates // 2} - {0}}
    assert progress["total"] == WARMUP + BUDGET - turns["seed_steps"]
    assert updates <= WARMUP + min(ledger["done_steps"], BUDGET) - turns["seed_steps"]
    assert ledger["explored"] == turns["episodes"] - SEEDS == ledger["episodes"] - SEEDS
    return ledger


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kills_in_every_phase(command: Command, tmp_path: Path) -> None:
    """Seed episodes, warm-up, acting, an evaluation, learning: noise, optimisers and ratio go on where they were."""
    words = (*WORDS, f"run_dir={tmp_path}")
    moments = [
        lambda rows: (tmp_path / "log.txt").exists(),
        lambda rows: any(r["kind"] == "collect" for r in rows),
        lambda rows: any(r["kind"] == "update" for r in rows),
        lambda rows: any(r.get("policy") == "mppi" for r in rows),
        lambda rows: any(r["kind"] == "evaluate" for r in rows),
        lambda rows: any(r.get("updates", 0) > 200 for r in rows),
    ]
    before: dict[str, Any] = {"explored": 0, "done_steps": 0, "turns": {"updates": 0}}
    for ready in moments:
        reached = lambda ready=ready: ready(learning(tmp_path))  # noqa: E731
        assert command.kill_when(reached, *words, timeout_s=200) == -signal.SIGKILL
        if any(r["kind"] == "update" for r in learning(tmp_path)):
            ledger = check(tmp_path)
            assert ledger["turns"]["updates"] >= before["turns"]["updates"]
            assert all(ledger[name] >= before[name] for name in ("explored", "done_steps"))
            before = ledger
    done = command(*words, timeout_s=300)
    assert done.returncode == 0, done.stderr + (tmp_path / "log.txt").read_text()
    rows, seeds = learning(tmp_path), before["turns"]["seed_steps"]
    decisions, updates = [r["step"] for r in rows], [r["updates"] for r in rows if "updates" in r]
    assert decisions == sorted(decisions)
    assert updates == sorted(set(updates))
    assert all(r["updates"] <= WARMUP + min(r["step"], BUDGET) - seeds for r in rows if "updates" in r)
    assert updates[-1] == WARMUP + BUDGET - seeds
    curve = json.loads((tmp_path / "results" / "curve.json").read_text())
    assert [row["decisions"] // EVERY for row in curve] == list(range(1, 1 + BUDGET // EVERY))
