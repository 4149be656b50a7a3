"""What a run asks of Ray fits the cluster; what it logs is JSON whatever comes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from distwm.config import load
from distwm.console import Console, print_plan
from distwm.help import print_settings
from distwm.logs import JsonLines, TensorBoard, figures
from distwm.overrides import apply, leaves
from distwm.placement import bundles, shares
from replay.errors import Missing

CONFIG = apply(load("dreamer4", {}), {"fleet.runners": 3, "learner.group": 2, "cluster.driver_cpus": 0.2})


@pytest.mark.parametrize("cpus", [0.5, 1.0, 2.0, 3.0, 64.0])
def test_the_bundles_fit(cpus: float) -> None:
    asked = bundles(CONFIG, shares(CONFIG, {"CPU": cpus})).bundles
    assert len(asked) == 6
    assert sum(bundle["CPU"] for bundle in asked) <= cpus
    assert all(bundle["CPU"] > 0 for bundle in asked)


def test_gpus_are_taken_where_they_are() -> None:
    assert shares(CONFIG, {"CPU": 8, "GPU": 2}).learner_gpus == 1
    assert shares(CONFIG, {"CPU": 8, "GPU": 1}).learner_gpus == 0
    with pytest.raises(Missing, match="GPU"):
        shares(apply(CONFIG, {"learner.device": "cuda"}), {"CPU": 8})


def test_records_are_json(tmp_path: Path) -> None:
    record = {
        "stage": "a",
        "kind": "update",
        "step": 3,
        "round": 0,
        "slice": 1,
        "loss": float("nan"),
        "x": 1.5,
        "ok": True,
    }
    sink = JsonLines(tmp_path / "m.jsonl")
    sink.write(record)
    sink.close()
    line = json.loads((tmp_path / "m.jsonl").read_text())
    assert (line["loss"], line["x"], line["step"]) == (None, 1.5, 3)
    assert figures(record) == {"x": 1.5}
    board = TensorBoard(tmp_path / "tb")
    board.write(record)
    board.close()
    assert list((tmp_path / "tb").iterdir())


def test_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    console = Console(stream, every_s=0)
    record = {"stage": "line", "kind": "update", "step": 2, "slice": 1, "loss": 0.25, "wall_s": 1.0}
    end = {"stage": "line", "kind": "stage_end", "step": 2, "slice": 1, "wall_s": 3.0}
    console.show({"stage": "line", "stage_index": 1, "stages": 4, "step": 2, "total": 8, "records": [record, end]})
    console.close()
    assert "[2/4] line 2/8  loss 0.25" in stream.getvalue()
    assert "line took 3.0 s" in stream.getvalue()


def test_help_and_plan_name_everything() -> None:
    stream = io.StringIO()
    print_settings(CONFIG, stream)
    text = stream.getvalue()
    assert all(key in text for key in leaves(CONFIG) if len(key) < 30)
    assert "improved policy" in text  # a comment of the source
    stream = io.StringIO()
    print_plan(CONFIG, stream)
    assert all(name in stream.getvalue() for name in ("tokenizer", "imagination", "evaluate"))
