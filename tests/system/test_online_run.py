"""An online stage on a toy: seed episodes, warm-up, then turns of acting and learning in an exact ratio."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, TOYS, Command, records

ONLINE = str(TOYS / "online.yaml")
LENGTH = 10  # decisions of an episode
SEED, WARMUP, RATIO, BUDGET = 3 * LENGTH, 5, 0.5, 100
UPDATES = WARMUP + round(RATIO * (BUDGET - SEED))


def turns(run_dir: Path) -> list[tuple[Any, ...]]:
    """(kind, decisions, updates) of the stage, in order; what a resumed run did again comes once."""
    rows = {(r["slice"], r["kind"]): r for r in records(run_dir) if r["stage"] == "line" and r["kind"] != "fleet"}
    return [(r["kind"], r["step"], int(r.get("updates", 0))) for _, r in sorted(rows.items(), key=lambda x: x[0][0])]


def check(run_dir: Path) -> None:
    """As many updates as decisions allow, never more, and all of them at the end."""
    updates = 0
    for kind, decisions, done in turns(run_dir):
        if kind == "update":
            updates = done
        owed = WARMUP + round(RATIO * max(min(decisions, BUDGET) - SEED, 0))
        assert updates <= owed, (kind, decisions, updates, owed)
    assert updates == UPDATES


def test_turns_keep_the_ratio(command: Command, tmp_path: Path) -> None:
    done = command(ONLINE, f"run_dir={tmp_path}")
    assert done.returncode == 0, done.stderr + (tmp_path / "log.txt").read_text()
    assert turns(tmp_path) == [
        ("collect", 30, 0),
        ("update", 30, 5),
        ("collect", 50, 0),
        ("update", 50, 15),
        ("evaluate", 50, 0),
        ("collect", 70, 0),
        ("update", 70, 25),
        ("collect", 90, 0),
        ("update", 90, 35),
        ("evaluate", 90, 0),
        ("collect", 100, 0),
        ("update", 100, 40),
        ("gate", 100, 0),
        ("stage_end", 100, 0),
    ]
    check(tmp_path)
    curve = json.loads((tmp_path / "results" / "curve.json").read_text())
    assert [(row["policy"], row["decisions"], len(row["returns"])) for row in curve] == [
        ("still", 50, 2),
        ("still", 90, 2),
    ]


def test_acting_and_learning_at_once(command: Command, tmp_path: Path) -> None:
    """Updates lag one turn behind, and are all there at the end."""
    done = command(ONLINE, f"run_dir={tmp_path}", "stages.line.online.overlap=true", "fleet.runners=2")
    assert done.returncode == 0, done.stderr + (tmp_path / "log.txt").read_text()
    check(tmp_path)


def test_a_run_gets_more_runners_on_request(command: Command, tmp_path: Path) -> None:
    process, deadline = command.start(ONLINE, f"run_dir={tmp_path}", "line.pause_s=0.1"), time.monotonic() + 120
    while not (tmp_path / "fleet.json").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    asked = subprocess.run([sys.executable, "-m", "distwm.fleet", str(tmp_path), "--runners", "2"], cwd=ROOT)
    _, err = process.communicate(timeout=200)
    assert (asked.returncode, process.returncode) == (0, 0), err
    assert len(json.loads((tmp_path / "fleet.json").read_text())["runners"]) == 2
    check(tmp_path)


@pytest.mark.parametrize("moment", [("collect", 50), pytest.param(("update", 70), marks=pytest.mark.slow)])
def test_kill_and_rerun_keep_the_ratio(command: Command, tmp_path: Path, moment: tuple[str, int]) -> None:
    """Whatever the killed run left in the replay counts as experience: the ratio is of what is stored."""
    words = (ONLINE, f"run_dir={tmp_path}", "line.pause_s=0.05")
    command.kill_when(lambda: moment in [turn[:2] for turn in turns(tmp_path)], *words)
    done = command(*words)
    assert done.returncode == 0, done.stderr + (tmp_path / "log.txt").read_text()
    check(tmp_path)
