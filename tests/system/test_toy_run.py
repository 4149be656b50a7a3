"""The whole chain on a toy: Ray, Redis, Tune, stages, checkpoints, report; kills and signals in the middle of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from harness import TOY, Command, descendants, ledger_of, records

from replay.shards.server import find_binary

PLAN = [
    ("collect", "collect", 4),
    ("collect", "collect", 8),
    ("collect", "stage_end", 8),
    ("line", "update", 2),
    ("line", "update", 4),
    ("line", "update", 6),
    ("line", "gate", 6),
    ("line", "stage_end", 6),
    ("second", "update", 2),
    ("second", "update", 4),
    ("second", "gate", 4),
    ("second", "stage_end", 4),
    ("evaluate", "evaluate", 1),
    ("evaluate", "evaluate", 2),
    ("evaluate", "stage_end", 2),
]


def test_a_run_its_rerun_and_another_configuration(command: Command, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    done = command(TOY, f"run_dir={run_dir}")
    assert done.returncode == 0, done.stderr + (run_dir / "log.txt").read_text()
    assert ledger_of(run_dir) == PLAN
    fleet = [r for r in records(run_dir) if r["kind"] == "fleet"]
    assert {r["stage"] for r in fleet} == {"collect", "evaluate"}
    assert all((r["fleet_restarts"], r["fleet_failures_died"], r["fleet_quarantined"]) == (0, 0, 0) for r in fleet)
    assert (run_dir / "report" / "index.html").stat().st_size > 0
    assert json.loads((run_dir / "results" / "gates.json").read_text())["line"]["steps_done"]["passed"]
    assert {r["policy"] for r in json.loads((run_dir / "results" / "returns.json").read_text())} == {"random", "still"}
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["stages"]["line"]["budget_steps"] == 6

    again = command(TOY, f"run_dir={run_dir}", "log.every_s=1")  # a setting that may change
    assert again.returncode == 0
    assert ledger_of(run_dir) == PLAN

    other = command(TOY, f"run_dir={run_dir}", "line.lr=1")
    assert other.returncode == 2
    assert "line.lr" in other.stderr


def test_kill_and_rerun(command: Command, tmp_path: Path) -> None:
    _kill_in(command, tmp_path / "run", "line")


@pytest.mark.slow
@pytest.mark.parametrize("actor", ["ray::LearnerActor", "ray::RunnerActor", "ray::ResourceTrainable"])
def test_a_process_of_the_run_is_killed(command: Command, tmp_path: Path, actor: str) -> None:
    """The run goes on by itself, from its last checkpoint; what is done again is not reported again."""
    run_dir = tmp_path / "run"
    process = command.start(TOY, f"run_dir={run_dir}", "line.pause_s=0.3", "checkpoint_every_s=1000")
    deadline = time.monotonic() + 120
    while ("line", "update", 4) not in ledger_of(run_dir):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    victims = [pid for pid, line in descendants(process.pid).items() if line.startswith(actor)]
    assert victims, descendants(process.pid).values()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err + (run_dir / "log.txt").read_text()
    assert ledger_of(run_dir) == PLAN
    assert ("died" in out) == (actor != "ray::RunnerActor")  # the fleet mends itself


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["collect", "second", "evaluate"])
def test_kill_and_rerun_in_other_stages(command: Command, tmp_path: Path, stage: str) -> None:
    _kill_in(command, tmp_path / "run", stage)


def _kill_in(command: Command, run_dir: Path, stage: str) -> None:
    words = (TOY, f"run_dir={run_dir}", "line.pause_s=0.3")
    code = command.kill_when(lambda: any(r["stage"] == stage for r in records(run_dir)), *words)
    assert code == -signal.SIGKILL
    done = command(*words)
    assert done.returncode == 0, done.stderr + (run_dir / "log.txt").read_text()
    # A slice that was saved but not yet reported may miss its record; nothing is there twice or out of order.
    found = ledger_of(run_dir)
    assert found == [line for line in PLAN if line in found]
    assert len(found) >= len(PLAN) - 3
    assert found[-1] == PLAN[-1]


def test_a_signal_saves_and_the_rerun_goes_on(command: Command, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    # no checkpoint but those of the stages' ends and the last one
    words = (TOY, f"run_dir={run_dir}", "line.pause_s=0.2", "checkpoint_every_s=1000", "stages.line.budget_steps=60")
    reached = lambda: ("line", "update", 4) in ledger_of(run_dir)  # noqa: E731
    assert command.kill_when(reached, *words, by=signal.SIGTERM) == 143
    before = ledger_of(run_dir)
    done = command.kill_when(lambda: len(ledger_of(run_dir)) > len(before), *words, by=signal.SIGINT)
    assert done == 130
    assert ledger_of(run_dir)[: len(before)] == before


def test_a_strict_gate_ends_the_run_with_4(command: Command, tmp_path: Path) -> None:
    words = (
        "gates=strict",
        "stages.line.gate.steps_done=>=100",
        "stages.line.extend_steps=2",
        "stages.line.max_extensions=1",
    )
    done = command(TOY, f"run_dir={tmp_path / 'run'}", *words)
    assert done.returncode == 4, done.stderr
    assert "steps_done 8 >=100 NOT passed" in done.stderr
    assert ("line", "update", 8) not in ledger_of(tmp_path / "run")  # the slice that fails is not counted
    assert ("line", "gate", 6) in ledger_of(tmp_path / "run")


@pytest.mark.slow
def test_a_reward_that_is_no_number_is_2(command: Command, tmp_path: Path) -> None:
    done = command(TOY, f"run_dir={tmp_path / 'run'}", "env.task=faulty/nan@5")
    assert done.returncode == 2, done.stderr
    assert "reward is nan at step 6" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_mistake_in_an_objective_ends_the_run_with_4(command: Command, tmp_path: Path) -> None:
    done = command(TOY, f"run_dir={tmp_path / 'run'}", "line.broken=true", "cluster.max_failures=1")
    assert done.returncode == 4, done.stderr
    assert "goes on from its last checkpoint" in done.stdout
    assert "RuntimeError: a mistake in the loss" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_password_stays_out_of_the_run_directory(command: Command, tmp_path: Path) -> None:
    """A Redis that is given, with a password from the environment; the run leaves it running, and names it nowhere."""
    (tmp_path / "redis").mkdir()
    socket, secret = tmp_path / "redis" / "s", "correct-horse"
    options = [
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--requirepass",
        secret,
        "--dir",
        tmp_path / "redis",
        "--save",
        "",
    ]
    server = subprocess.Popen([find_binary(), *options], stdout=subprocess.DEVNULL)
    try:
        run_dir = tmp_path / "run"
        url = f"unix://:$SECRET@{socket}"
        process = command.start(TOY, f"run_dir={run_dir}", f"replay.url={url}", SECRET=secret)
        lines: set[str] = set()
        while process.poll() is None:
            lines |= set(descendants(process.pid).values())
            time.sleep(0.2)
        assert process.returncode == 0, process.communicate()[1]
        assert any("ray::" in line for line in lines)
        assert not [line for line in lines if secret in line]
        assert f"unix://:$SECRET@{socket}" in (run_dir / "config.yaml").read_text()
        assert not [path for path in run_dir.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert server.poll() is None
        wrong = command(TOY, f"run_dir={tmp_path / 'other'}", f"replay.url={url}", SECRET="wrong")
        assert wrong.returncode == 2
        assert "wrong" not in wrong.stderr
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.mark.slow
def test_losses_that_stay_broken_end_the_run_with_4(command: Command, tmp_path: Path) -> None:
    done = command(TOY, f"run_dir={tmp_path / 'run'}", "line.poison_update=3", "learner.max_skips=1")
    assert done.returncode == 4, done.stderr
