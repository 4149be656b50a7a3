"""The command that shows the runners of a run and asks for others, and the driver's side of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.fleet import RunnerStatus
from distwm.fleet import REQUEST, STATUS, at_work, main, save_status, take_request
from distwm.rundir import RunDir

FIGURES = {"runners": 2, "up": 1, "steps": 1234, "episodes": 11, "restarts": 3}


class Runners:
    """What `save_status` asks of a fleet."""

    def status(self) -> Sequence[RunnerStatus]:
        return [
            RunnerStatus(index=0, member=0, task="dmc/walker_walk", state="busy", steps=1234, lag=2, lag_s=7.0),
            RunnerStatus(
                index=1,
                member=0,
                task="dmc/walker_walk",
                state="quarantined",
                again_s=120.0,
                failures={"died": 2, "stalled": 1},
                last_error="stalled: no step within 120 s\nmore",
            ),
            RunnerStatus(index=2, member=0, task="dmc/walker_walk", state="waiting", again_s=-1.0),
        ]

    def figures(self) -> dict[str, float]:
        return dict(FIGURES)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("")
    save_status(tmp_path / STATUS, Runners())  # type: ignore[arg-type]
    return tmp_path


def test_it_shows_what_the_driver_wrote(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_dir)]) == 0
    out = capsys.readouterr().out
    busy, resting, gone = (next(line for line in out.splitlines() if f"│ {index} " in line) for index in range(3))
    assert "busy" in busy
    assert "2, 7 s" in busy
    assert "quarantined 120 s" in resting
    assert "died 2, stalled 1" in resting
    assert "runner 1, its last failure: stalled: no step within 120 s" in out
    assert " waiting " in gone
    assert "1 of 2 runners up, 1234 steps in 11 episodes, 3 restarts" in out
    assert "last at work" in out
    assert main([str(run_dir), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["figures"] == FIGURES
    assert told["runners"][1]["failures"] == {"died": 2, "stalled": 1}
    assert told["at_work"] is False


def test_a_request_reaches_the_driver_once(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert take_request(run_dir) is None
    with RunDir(run_dir).owned():
        assert at_work(run_dir)
        assert main([str(run_dir), "--runners", "3"]) == 0
        assert main([str(run_dir), "--runners", "5"]) == 0  # the newest one counts
    assert "Asked for 5 runners" in capsys.readouterr().out
    assert take_request(run_dir) == 5
    assert take_request(run_dir) is None
    assert sorted(path.name for path in run_dir.iterdir()) == [".lock", "config.yaml", STATUS]


@pytest.mark.parametrize("number", ["0", "-1", "1000000"])
def test_numbers_that_nobody_means(run_dir: Path, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with RunDir(run_dir).owned():
        assert main([str(run_dir), "--runners", number]) == 2
    assert f"cannot have {number} runners" in capsys.readouterr().err
    assert take_request(run_dir) is None


def test_where_no_run_is_at_work(tmp_path: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not at_work(run_dir)
    assert main([str(run_dir), "--runners", "3"]) == 75
    assert "No run is at work" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "holds no run" in capsys.readouterr().err
    (run_dir / STATUS).unlink()
    assert main([str(run_dir)]) == 75
    assert "have not begun" in capsys.readouterr().err
    (run_dir / STATUS).write_text("{")
    assert main([str(run_dir)]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"runners": "4"}', '{"runners": true}', '{"runners": 0}', "\xff"])
def test_a_request_that_is_none_is_dropped(run_dir: Path, text: str) -> None:
    (run_dir / REQUEST).write_bytes(text.encode("latin-1"))
    assert take_request(run_dir) is None
    assert not (run_dir / REQUEST).exists()


def test_it_is_a_command(run_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distwm.fleet", str(run_dir)], capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert "dmc/walker_walk" in done.stdout
