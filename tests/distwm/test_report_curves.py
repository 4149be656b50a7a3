"""Learning curves: one line over episodes or over seeds, the best of the last evaluations, a baseline beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distwm.report import write_report, write_study
from distwm.report.curves import best_of_last, lines_over, read_baseline
from distwm.report.inputs import read_run
from replay.errors import BadInput

PLAYER = ("policy", "mode")


def rows(values: list[list[float]], policy: str = "policy") -> list[dict[str, object]]:
    return [
        {"policy": policy, "mode": "mode", "env_steps": 1000 * number, "decisions": 500 * number, "returns": returns}
        for number, returns in enumerate(values, 1)
    ]


def make_run(root: Path, seed: int) -> Path:
    (root / "results").mkdir(parents=True)
    config = {"recipe": "dcmpc", "seed": seed, "env": {"task": "dmc/cartpole_swingup"}}
    said = {"subject": "policy:mode", "reference": "random", "control": ""}
    (root / "config.yaml").write_text(json.dumps(config | {"evaluate": said}))
    (root / "results" / "curve.json").write_text(json.dumps(rows([[1.0, 2.0], [3.0 + seed, 5.0]])))
    played = [("random", "sample", 1.0), ("policy", "mode", 9.0)]
    returns = [
        {"round": 0, "policy": p, "mode": m, "seed": k, "total_reward": r + 0.1 * k, "length": 5}
        for p, m, r in played
        for k in range(4)
    ]
    (root / "results" / "returns.json").write_text(json.dumps(returns))
    figures = {"horizon": np.arange(1, 6), "error": np.ones(5), "marginal": 2 * np.ones(5), "reward_error": np.ones(5)}
    np.savez(root / "results" / "prediction.npz", **figures)
    np.savez(root / "results" / "code_usage.npz", usage=np.full((8, 15), 1 / 15))
    return root


def test_one_seed_has_an_interval_over_episodes() -> None:
    (line,) = lines_over([rows([[1.0, 3.0], [5.0, 5.0]])])
    assert line.env_steps.tolist() == [1000, 2000]
    assert [r.mean for r in line.returns] == [2.0, 5.0]
    assert line.returns[0].count == 2


def test_several_seeds_have_one_over_their_means_where_all_have_evaluated() -> None:
    (line,) = lines_over([rows([[1.0, 3.0], [5.0, 5.0]]), rows([[4.0, 4.0]])])
    assert line.env_steps.tolist() == [1000]
    assert [(r.mean, r.count) for r in line.returns] == [(3.0, 2)]
    assert line.label.endswith("(2 seeds)")
    assert line.means.tolist() == [[2.0], [4.0]]


def test_seeds_that_were_interrupted_are_a_few_steps_off() -> None:
    exact, off = rows([[1.0], [2.0], [3.0]]), rows([[3.0], [4.0], [5.0]])
    for row in off[1:]:
        row["env_steps"] += 44
    for seeds in ([exact, off], [off, exact]):
        (line,) = lines_over(seeds)
        assert [(r.mean, r.count) for r in line.returns] == [(2.0, 2), (3.0, 2), (4.0, 2)]
        assert line.env_steps.tolist() == [row["env_steps"] for row in seeds[0]]
    (line,) = lines_over([exact, off[:2]])
    assert len(line.returns) == 2


def test_a_later_round_has_a_curve_of_its_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 0)
    rounds = [row | {"stage": stage} for stage in ("learn", "learn@1") for row in rows([[1.0], [2.0], [9.0]])]
    (run / "results" / "curve.json").write_text(json.dumps(rounds[:-1]))
    (line,) = lines_over([read_run(run).evaluations])
    assert [r.mean for r in line.returns] == [1.0, 2.0]


def test_the_best_of_the_last_three() -> None:
    assert best_of_last(rows([[99.0], [1.0], [5.0], [2.0]]), PLAYER) == 5.0
    assert best_of_last(rows([[4.0]], "other"), PLAYER) is None


def test_the_pages_show_curves_codes_and_the_baseline(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"seed{seed}", seed) for seed in (0, 1)]
    text = write_report(runs[0]).read_text()
    assert "The policy, most likely action beats random" in text
    assert all(f"<h2>{title}</h2>" in text for title in ("Learning curve", "Codes"))
    assert (runs[0] / "report" / "learning_curve.png").is_file()
    for seed in (0, 1):
        path = tmp_path / "sac" / f"seed{seed}" / "results" / "curve.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(rows([[0.5], [0.7]], "sac")))
    text = write_study(runs, baselines=[tmp_path / "sac"]).read_text()
    assert "<h2>Learning curves</h2>" in text
    assert "SAC, most likely action (2 seeds)" in text
    assert "SAC, most likely action (2 seeds)" in json.loads((tmp_path / "report" / "learning_curves.json").read_text())
    assert "Of a baseline with several seeds: over seeds." in write_report(runs[0], [tmp_path / "sac"]).read_text()


def test_a_baseline_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no baseline"):
        read_baseline(tmp_path)
