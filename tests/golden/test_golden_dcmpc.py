"""Fixed-seed loss curves of DC-MPC, as it is and in the other encodings: a change of the numerics shows here first.

When a change is meant, write them anew and say why in the commit:

    python -m pytest tests/golden --regenerate-golden
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import points
import pytest

from learners.learner import Learner, LearnerConfig

HERE = Path(__file__).parent
VARIANTS: dict[str, dict[str, Any]] = {
    "fsq": {},
    "three_steps": {"n_step": 3, "stochastic": False},
    "vq": {"world": {"encoding": "vq"}},
    "continuous": {"world": {"encoding": "continuous", "dynamics": "mse"}},
}
UPDATES, SLICE = 30, 3
TOLERANCE = 1e-3  # relative: machines differ in the last bits, which training lets grow
FIGURES = ("model", "critic")


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_are_what_they_were(variant: str, request: pytest.FixtureRequest) -> None:
    """The mean losses of world model and critics in each slice."""
    learner = Learner(LearnerConfig(), points.config(**VARIANTS[variant]), points.SPEC, points.source, seed=0)
    learner.begin("learn", "dcmpc", UPDATES)
    slices = [learner.update(SLICE) for _ in range(UPDATES // SLICE)]
    learner.close()
    found = {name: [entry[name] for entry in slices] for name in FIGURES}
    path = HERE / f"dcmpc_{variant}.json"
    if request.config.getoption("--regenerate-golden", default=False):
        rounded = {name: [round(x, 8) for x in curve] for name, curve in found.items()}
        path.write_text(json.dumps({"updates_per_slice": SLICE} | rounded) + "\n")
        pytest.skip(f"wrote {path.name}")
    golden = json.loads(path.read_text())
    for name, curve in found.items():
        assert curve == pytest.approx(golden[name], rel=TOLERANCE)
