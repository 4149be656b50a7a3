"""The cards of a run about tokenizers of actions: what they say, and the numbers beside their pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distwm.report import write_report

LAYERS = {name: np.array([0.02, 0.001]) for name in ("mse_norm", "std_norm", "mse_raw", "mse_arm", "r2", "usage")}
LAYERS |= {"layers": np.array([1, 2]), "bits": np.array([80, 160]), "tokens": np.array([10, 20])}
LAYERS |= {"ratio": np.array([28.0, 14.0]), "perplexity": np.array([12.0, 9.0]), "mse_gripper": np.array([0.4, 0.3])}
EXHIBITS: dict[str, dict[str, np.ndarray]] = {
    "rvq_layers": LAYERS,
    "rvq_usage": {"counts": np.array([[5, 0, 3], [2, 2, 4]])},
    "rvq_examples": {"original": np.zeros((3, 10, 7)), "reconstructed": np.ones((2, 3, 10, 7))},
    "rate_distortion": {"rvq_bits": np.array([80, 160]), "rvq_mse_norm": np.array([0.02, 0.001])},
    "layers_by_phase": {
        "phases": np.array(["reach", "grasp"]),
        "counts": np.array([[1, 1, 0], [0, 0, 0]]),
        "mean": np.array([1.5, np.nan]),
        "chunks": np.array([2, 0]),
    },
    "hypotheses": {
        "names": np.array(["coarse"]),
        "gate": np.array([0.01]),
        "mean": np.array([0.005]),
        "low": np.array([-np.inf]),
        "high": np.array([np.inf]),
        "verdict": np.array(["not shown"]),
    },
}


def make_run(root: Path, config: dict[str, Any] | None = None, **more: dict[str, np.ndarray]) -> Path:
    (root / "results").mkdir(parents=True)
    (root / "config.yaml").write_text(json.dumps(config or {}))
    for name, arrays in (EXHIBITS | more).items():
        np.savez(root / "results" / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    rows = [
        {"policy": "source", "mode": "sample", "seed": n, "total_reward": 1.0, "length": 9, "success": n < 3}
        for n in range(4)
    ]
    (root / "results" / "returns.json").write_text(json.dumps(rows))
    return root


def numbers(run: Path) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    paths = (run / "report").glob("*.json")
    return {path.stem: json.loads(path.read_text(), parse_constant=refuse) for path in paths}


def test_every_picture_has_its_numbers_beside_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_report(run)
    found = numbers(run)
    assert {path.stem for path in (run / "report").glob("*.png")} == found.keys() - {"hypotheses"}
    assert found["codebooks"]["counts"] == [[5, 0, 3], [2, 2, 4]]
    assert np.shape(found["trajectories"]["reconstructed"]) == (2, 3, 10, 7)
    assert found["phases"]["mean"] == [1.5, None]
    assert found["hypotheses"]["high"] == [None]
    (share,) = found["success"].values()
    assert (share["mean"], share["count"]) == (0.75, 4)
    assert share["low"] == pytest.approx(0.3, abs=0.02)


def test_bands_stand_beside_layers_of_no_fewer_bits(tmp_path: Path) -> None:
    bands = {
        "bits": np.array([100, 150, 200]),
        "mse_arm": np.array([0.0111, 0.0222, 0.0333]),
        "mse_gripper": np.array([0.0444, 0.0555, 0.0666]),
    }
    run = make_run(tmp_path / "run", bands_layers=bands)
    text = write_report(run).read_text()
    assert "gripper, bands" in text
    assert '<td class="">–</td><td class="">–</td></tr>' in text  # at 80 bits there is nothing
    assert '0.0222 <small>150 bits</small></td><td class="">0.0555</td></tr>' in text
    assert "0.0333" not in text
    assert numbers(run)["layers"]["bands"]["bits"] == [100, 150, 200]
    assert "bands" not in write_report(make_run(tmp_path / "without")).read_text().partition("<h2>Error by bits")[0]


def test_why_nothing_is_shown_is_said_above_and_in_the_table(tmp_path: Path) -> None:
    reason = "held-out episodes: 2, a verdict takes 8"
    claims = EXHIBITS["hypotheses"] | {"reason": np.array([reason])}
    text = write_report(make_run(tmp_path / "run", hypotheses=claims)).read_text()
    assert f"Nothing can be shown yet: {reason}." in text
    assert f"not shown <small>{reason}</small>" in text


def test_what_is_configured_is_what_the_cards_say(tmp_path: Path) -> None:
    settings = {"analyse": {"confidence": 0.995, "peers": {"fast_vocabulary": 2000}}}
    text = write_report(make_run(tmp_path / "run", settings)).read_text()
    assert "interval over episodes (99.5%)" in text
    assert "With a vocabulary of 2000, a token of FAST takes 11 bits." in text
    unknown = write_report(make_run(tmp_path / "other")).read_text()
    assert "interval over episodes. Validated" in unknown
    assert "a token of FAST takes" not in unknown
