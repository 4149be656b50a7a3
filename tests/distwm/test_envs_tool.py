"""`python -m distwm.envs`, as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from distwm.envs import main


def test_lists_suites_and_the_tasks_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(suite in shown for suite in ("dmc", "hybrid", "atari", "crafter", "counting"))
    assert main(["list", "dmc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 51
    assert "dmc/walker_walk" in lines
    assert lines == sorted(lines)


def test_info_shows_fields_actions_and_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "dmc/reacher_easy", "image_size=64", "env.render_size=64"]) == 0
    shown = capsys.readouterr().out
    for words in ("[64, 64, 3] uint8", "'qpos'", "250 decisions", "12.5 a second", "expert", "yes"):
        assert words in shown
    assert main(["info", "hybrid/platform"]) == 0
    shown = capsys.readouterr().out
    assert "Discrete(3)" in shown
    assert "[6] float32 in [-1, 1]" in shown


def test_check_prints_a_table_and_measures(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "hybrid/catch_point", "image_size=16", "--measure-s", "0.01", "--clock", "cpu"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "kept" in shown
    assert "(Discrete(2) x Box(1))" in shown


def test_check_as_json_and_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "--all", "hybrid", "pixels=false", "--measure-s", "0", "--decisions", "5"]
    assert main([*words, "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert len(reports) == 12
    assert {report["task"] for report in reports} >= {"hybrid/platform", "hybrid/hard_move_10"}
    assert not any(report["problems"] for report in reports)
    assert main([*words, "--markdown"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len({line.count("|") for line in lines}) == 1


def test_a_broken_contract_is_exit_code_2_and_says_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "faulty/nan@3", "--measure-s", "0"]) == 2
    shown = capsys.readouterr()
    assert "problems" in shown.out
    assert "faulty/nan@3: a reward is nan" in shown.err


@pytest.mark.parametrize("policy", ["random", "expert"])
def test_watch_writes_a_video_and_says_where(tmp_path: Path, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "here" / "swing.mp4"
    words = ["watch", "dmc/cartpole_swingup", "--policy", policy, "--out", str(path), "--steps", "12"]
    assert main([*words, "render_size=64", "image_size=64"]) == 0
    assert f"{path}: 12 decisions, return " in capsys.readouterr().out
    frames = np.asarray(iio.imread(path))
    assert frames.shape == (13, 256, 256, 3)
    assert frames.std() > 10


def test_watch_names_its_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch", "hybrid/platform"]) == 0
    assert (tmp_path / "hybrid-platform-random.mp4").stat().st_size > 500


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["list", "dcm"], "'dmc'"),
        (["info", "dmc/walker_wak"], "'walker_walk'"),
        (["info", "dmc/walker_walk", "image_siz=3"], "image_size"),
        (["info", "dmc/walker_walk", "image_size=big"], "of type"),
        (["info", "dmc/walker_walk", "hybrid/goal"], "key=value"),
        (["check"], "--all SUITE"),
        (["check", "--all", "hybird"], "'hybrid'"),
        (["watch", "hybrid/goal", "--policy", "expert"], "random"),
        (["watch", "hybrid/goal", "--policy", "best"], "random"),
        (["watch", "hybrid/goal", "--steps", "0"], "1 or more"),
    ],
)
def test_mistakes_are_one_line_with_the_mend(words: list[str], mend: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("distwm: ")
    assert error.count("\n") == 1
    assert mend in error


def test_the_command_itself() -> None:
    command = [sys.executable, "-m", "distwm.envs"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "check" in done.stdout
    done = subprocess.run([*command, "chekc"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
