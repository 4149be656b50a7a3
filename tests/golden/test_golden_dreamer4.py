"""Fixed-seed loss curves of every objective of Dreamer 4: a change of the numerics shows here first.

When a change is meant, write them anew and say why in the commit:

    python -m pytest tests/golden --regenerate-golden
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import squares

from learners.learner import Learner, LearnerConfig

HERE = Path(__file__).parent
STAGES = ("tokenizer", "dynamics", "agent", "imagination", "control")
UPDATES, SLICE = 30, 3
TOLERANCE = 1e-3  # relative: machines differ in the last bits, which training lets grow (to 1e-6 without vector units)


@pytest.fixture(scope="module")
def curves() -> Mapping[str, list[float]]:
    """The mean loss of each slice, stage after stage, each on the weights that the one before left."""
    learner = Learner(LearnerConfig(), squares.config(), squares.SPEC, squares.source, seed=0)
    found = {}
    for stage in STAGES:
        learner.begin(stage, stage, UPDATES)
        found[stage] = [learner.update(SLICE)["loss"] for _ in range(UPDATES // SLICE)]
        learner.finish()
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_losses_are_what_they_were(
    stage: str, curves: Mapping[str, list[float]], request: pytest.FixtureRequest
) -> None:
    path, found = HERE / f"dreamer4_{stage}.json", curves[stage]
    if request.config.getoption("--regenerate-golden", default=False):
        path.write_text(json.dumps({"updates_per_slice": SLICE, "loss": [round(x, 8) for x in found]}) + "\n")
        pytest.skip(f"wrote {path.name}")
    golden = json.loads(path.read_text())["loss"]
    assert found == pytest.approx(golden, rel=TOLERANCE)
