"""Fixed-seed loss curve of the RVQ tokenizer, and the errors of the bands: a change of the numerics shows here first.

When a change is meant, write them anew and say why in the commit:

    python -m pytest tests/golden --regenerate-golden
"""

from __future__ import annotations

import json
from pathlib import Path

import picking
import pytest
from rvq_kit import config

from learners.learner import Learner, LearnerConfig
from learners.rvq.bands import BandsConfig, BandTokenizer
from learners.rvq.chunks import of_episodes
from learners.rvq.heldout import by_layers

HERE = Path(__file__).parent
UPDATES, SLICE = 30, 3
TOLERANCE = (
    2e-3  # relative: machines differ in the last bits, and a vector between two codes may then take the other one
)


def learnt() -> dict[str, list[float]]:
    """The mean losses in each slice."""
    learner = Learner(LearnerConfig(), config(), picking.SPEC, lambda: picking.source(20), seed=0)
    learner.begin("learn", "rvq", UPDATES)
    slices = [learner.update(SLICE) for _ in range(UPDATES // SLICE)]
    learner.close()
    return {name: [entry[name] for entry in slices] for name in ("reconstruction", "commitment")}


def bands() -> dict[str, list[float]]:
    """Normalised errors on unseen chunks by the number of tokens."""
    train, test = (of_episodes([picking.actions(n) for n in numbers], 10, 5) for numbers in (range(16), range(50, 54)))
    fitted = BandTokenizer(config=BandsConfig(tokens=6, num_embeddings=32, widths=(4, 8))).fit(train)
    return {"mse": [float(errors.norm.mean()) for errors in by_layers(fitted, test.actions).errors]}


@pytest.mark.parametrize("name", ["learnt", "bands"])
def test_figures_are_what_they_were(name: str, request: pytest.FixtureRequest) -> None:
    found = {"learnt": learnt, "bands": bands}[name]()
    path = HERE / f"rvq_{name}.json"
    if request.config.getoption("--regenerate-golden", default=False):
        rounded = {figure: [round(x, 8) for x in curve] for figure, curve in found.items()}
        path.write_text(json.dumps(rounded) + "\n")
        pytest.skip(f"wrote {path.name}")
    golden = json.loads(path.read_text())
    for figure, curve in found.items():
        assert curve == pytest.approx(golden[figure], rel=TOLERANCE)
