"""A run directory has one owner and one configuration, and its records end where the checkpoint does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distwm.config import load
from distwm.overrides import apply
from distwm.rundir import RunDir, resolve_run_dir
from replay.errors import BadInput, TryAgain


def test_claim_and_claim_again(tmp_path: Path) -> None:
    run_dir, config = RunDir(tmp_path / "run"), load("dreamer4", {})
    with run_dir.owned():
        assert run_dir.claim(config) is False
        name = run_dir.run_id
        assert run_dir.claim(apply(config, {"log.every_s": 1, "fleet.runners": 5})) is True
        patient = {"env.host.step_s": 300.0, "runner.env_retries": 9}  # as an error of an environment may ask for
        assert run_dir.claim(apply(config, patient)) is True
        moved = {"source.url": "ws://b:2", "source.first_timeout_s": 900.0, "source.retries": 9}
        assert run_dir.claim(apply(config, moved)) is True
        with pytest.raises(BadInput, match=r"source\.execute_steps"):
            run_dir.claim(apply(config, {"source.execute_steps": 2}))
        assert run_dir.run_id == name
        with pytest.raises(BadInput, match=r"tokenizer\.lr .*seed|seed .*tokenizer\.lr"):
            run_dir.claim(apply(config, {"seed": 1, "tokenizer.lr": 1.0}))
        with pytest.raises(TryAgain, match="Another run"), RunDir(tmp_path / "run").owned():
            pass
    with run_dir.owned():
        pass


def test_a_start_that_was_killed_can_be_claimed(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "run_id").write_text("half")
    with run_dir.owned():
        assert run_dir.claim(load("dreamer4", {})) is False


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"), RunDir(tmp_path / "file" / "run").owned():
        pass


def test_trim_metrics(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.trim_metrics(3)
    lines = [json.dumps({"slice": number, "x": 1}) for number in (1, 2, 3, 3, 4)]
    run_dir.metrics.write_text("\n".join([*lines, '{"slice": 2, "x"']))
    run_dir.trim_metrics(3)
    assert run_dir.metrics.read_text().splitlines() == lines[:4]


def test_where_runs_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = load("dreamer4", {"env.task": "dmc/reacher_easy"})
    assert resolve_run_dir(config, "seed0") == Path("runs/dreamer4-reacher_easy-seed0")
    job = tmp_path / "working_dir_files" / "pkg"
    job.mkdir(parents=True)
    monkeypatch.chdir(job)
    assert resolve_run_dir(config, "seed0") == Path.home() / "runs/dreamer4-reacher_easy-seed0"
    assert resolve_run_dir(apply(config, {"run_dir": "/shared/x"}), "seed0") == Path("/shared/x")
