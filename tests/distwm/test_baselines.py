"""The baseline's command: curves as our runs write them, seeds that are not run twice."""

from pathlib import Path

import pytest

from distwm.baselines import main
from distwm.report.curves import lines_over, read_baseline

TASK = ["env=dmc/point_mass_easy", "env.action_repeat=4", "env.time_limit_s=0.8", "steps=160"]
TINY = [*TASK, "evaluate.every=80", "evaluate.episodes=2", "sac.seed_episodes=2", "sac.batch_size=8", "sac.hidden=8"]


def test_trains_seeds_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = [f"out={tmp_path / 'sac'}", "seeds=0,1"]
    assert main(["sac", *TINY, *out]) == 0
    assert "Done" in capfd.readouterr().out
    assert main(["sac", *TINY, *out]) == 0
    assert "Every seed is finished" in capfd.readouterr().out
    seeds = read_baseline(tmp_path / "sac")
    assert len(seeds) == 2
    for rows in seeds:
        assert [row["env_steps"] for row in rows] == [80, 160]
        assert all(len(row["returns"]) == 2 for row in rows)
    (line,) = lines_over(seeds)
    assert (line.player, line.seeds) == (("sac", "mode"), 2)
    assert main(["sac", *TINY, *out, "sac.lr=1e-2"]) == 2
    assert "another" in capfd.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [["steps=0"], ["stepps=3"], ["evaluate.every=0"], ["env=dmc/no_task"], ["env=atari/pong", "env.state=false"]],
)
def test_wrong_settings(wrong: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sac", f"out={tmp_path / 'sac'}", *wrong]) == 2
    assert capfd.readouterr().err.startswith("distwm: ")


def test_wants_a_place(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sac", *TINY]) == 2
    assert "out=DIR" in capfd.readouterr().err
