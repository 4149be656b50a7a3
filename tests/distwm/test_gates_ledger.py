"""Gates compare exactly; the ledger and the checkpoints around it are whole or absent."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import torch

from distwm.checkpoints import LEARNER, Checkpoints
from distwm.gates import judge, parse
from distwm.ledger import Ledger
from distwm.recipe import StageConfig, plan
from learners.checkpoint import Checkpoint, save
from replay.errors import BadInput


@pytest.mark.parametrize(
    ("threshold", "value", "passed"),
    [
        (">=0.95", 0.95, True),
        (">= 0.95", 0.9499, False),
        ("<1.0", 1.0, False),
        ("<=1.0", 1.0, True),
        ("> -2e-3", 0.0, True),
        (">=0", float("nan"), False),
        ("<0", float("nan"), False),
    ],
)
def test_judge(threshold: str, value: float, passed: bool) -> None:
    assert judge({"r2": value}, {"r2": threshold})["r2"].passed is passed


def test_gates_that_cannot_be(tmp_path: Path) -> None:
    for text in ("0.95", "=>0.95", ">=high", ""):
        with pytest.raises(BadInput):
            parse(text)
    with pytest.raises(BadInput, match="nobody reports"):
        judge({"psnr": 1.0}, {"r2": ">=0"})
    assert judge({"psnr": 1.0}, {"r2": ""}) == {}


def test_plan_over_rounds() -> None:
    stages = {
        "collect": StageConfig(kind="collect", budget_steps=4, rounds="first"),
        "collect_policy": StageConfig(kind="collect", budget_steps=2, rounds="later"),
        "model": StageConfig(budget_steps=10),
        "skipped": StageConfig(budget_steps=0),
        "evaluate": StageConfig(kind="evaluate", rounds="last"),
    }
    keys = [stage.key for stage in plan(stages, rounds=3)]
    assert keys == ["collect", "model", "collect_policy@1", "model@1", "collect_policy@2", "model@2", "evaluate@2"]


def test_ledger_counts_attempts(tmp_path: Path) -> None:
    stage = plan({"model": StageConfig(budget_steps=10, extend_steps=4, max_extensions=1)}, 1)[0]
    ledger = Ledger()
    ledger.count(10)
    assert (ledger.attempt(stage), ledger.total_steps(stage)) == ("model", 10)
    ledger.extend()
    ledger.count(1)
    assert (ledger.attempt(stage), ledger.budget_steps(stage), ledger.total_steps(stage)) == ("model+1", 4, 14)
    assert (ledger.done_steps, ledger.attempt_steps) == (11, 1)
    ledger.save(tmp_path)
    assert asdict(Ledger.load(tmp_path)) == asdict(ledger)
    ledger.next_stage()
    assert (ledger.stage, ledger.done_steps, ledger.attempt_steps, ledger.extensions) == (1, 0, 0, 0)


def test_a_broken_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text('{"slices": 1, "unheard": 2}')
    with pytest.raises(BadInput, match=r"ledger\.json"):
        Ledger.load(tmp_path)


def test_an_incomplete_or_damaged_checkpoint_does_not_count(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "c", keep=2)
    assert store.newest() is None

    def write(number: int, path: Path) -> None:
        save(path / LEARNER, Checkpoint(tensors={"system": {"x": torch.full((3,), float(number))}}, state={}))

    for number in range(8, 12):
        store.save(number, partial(write, number))
    assert [path.name for path in sorted(store.root.iterdir())] == ["00000010", "00000011"]

    def crash(path: Path) -> None:
        write(12, path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.save(12, crash)
    (store.root / "00000013").mkdir()  # without the mark
    assert store.newest() == store.root / "00000011"
    tensors = store.root / "00000011" / LEARNER / "system.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    assert store.newest() == store.root / "00000010"
