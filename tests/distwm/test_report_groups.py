"""Several configurations in one table: runs are grouped by what they differ in, each group over its seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distwm.report.groups import baseline_of, groups_of, main, table_of
from distwm.report.inputs import read_run
from replay.errors import BadInput


def curve(values: list[float], policy: str = "policy") -> str:
    return json.dumps(
        [
            {"policy": policy, "mode": "mode", "env_steps": 1000 * k, "decisions": 500 * k, "returns": [value]}
            for k, value in enumerate(values, 1)
        ]
    )


def make_run(root: Path, seed: int, values: list[float], **settings: object) -> Path:
    (root / "results").mkdir(parents=True)
    config = {"recipe": "dcmpc", "seed": seed, "env": {"task": "dmc/cartpole_swingup"}, "run_dir": str(root)}
    said = {"subject": "policy:mode", "reference": "random", "control": ""}
    (root / "config.yaml").write_text(json.dumps(config | {"evaluate": said} | settings))
    (root / "results" / "curve.json").write_text(curve(values))
    return root


def test_runs_are_grouped_by_what_sets_them_apart(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a0", 0, [9.0, 1.0, 2.0, 3.0, 50.0], world={"dynamics": "ce"}, seeds="0,1"),
        make_run(tmp_path / "a1", 1, [9.0, 1.0, 4.0, 5.0, 60.0], world={"dynamics": "ce"}, fleet={"restarts": 3}),
        make_run(
            tmp_path / "b0", 0, [0.0, 1.0, 1.5, 0.5], world={"dynamics": "mse"}, stages={"learn": {"budget_steps": 2}}
        ),
        make_run(tmp_path / "b1", 1, [0.0, 1.0, 1.0, 2.5], world={"dynamics": "mse"}),
        make_run(tmp_path / "c0", 0, [7.0, 7.0, 7.0, 7.0], world={"dynamics": "ce"}, fleet={"runners": 4}),
    ]
    groups = groups_of([read_run(path) for path in runs])
    assert [group.name for group in groups] == ["the first", "world.dynamics=mse", "fleet.runners=4"]
    assert [len(group.seeds) for group in groups] == [2, 2, 1]
    lines = table_of(groups).splitlines()
    assert "up to 4000 environment steps" in lines[0]
    assert lines[2].startswith("| the first | 3.00, 5.00 | 4.00 |")
    assert lines[3].startswith("| world.dynamics=mse | 1.50, 2.50 | 2.00 |")
    assert "−2.00 [" in lines[3]
    assert lines[4] == "| fleet.runners=4 | 7.00 | 7.00 | 7.00 [no interval] | +3.00 [no interval] |"
    assert "| 9.00, 9.00 |" in table_of(groups, until=2000)


def test_the_command_prints_a_baseline_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / f"a{seed}", seed, [1.0, 2.0 + seed]) for seed in (0, 1)]
    for seed in (0, 1):
        path = tmp_path / "sac" / f"seed{seed}" / "results" / "curve.json"
        path.parent.mkdir(parents=True)
        path.write_text(curve([0.25, 0.5], "sac"))
    assert main([*map(str, runs), "--baseline", str(tmp_path / "sac")]) == 0
    assert "| baseline sac | 0.50, 0.50 | 0.50 |" in capsys.readouterr().out.replace("0.500", "0.50")
    assert baseline_of(tmp_path / "sac").player == ("sac", "mode")


def test_a_seed_that_comes_twice_is_refused(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / name, 0, [1.0])) for name in ("a", "b")]
    with pytest.raises(BadInput, match="seed that came before"):
        groups_of(runs)
    assert main([str(tmp_path / "nothing")]) == 2
