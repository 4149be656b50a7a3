"""A mixed collection in small: whatever is killed, each episode is stored once, whole and labelled."""

from __future__ import annotations

from pathlib import Path

import pytest
from mixed import Mixed, run
from mixed_report import picture, table


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_runners_and_environments_are_killed(tmp_path: Path) -> None:
    tasks = ("dmc/cartpole_swingup", "counting/20-40", "crafter/reward")
    settings = ("env.hosted=true", "env.pixels=false", "fleet.cpus_per_runner=0.25", "fleet.backoff_s=0.1")
    mixed = Mixed(tmp_path / "mixed", minutes=1.5, tasks=tasks, settings=settings)
    found, wrong = run(mixed, every_s=8)
    assert not wrong
    assert [said for one in found for said in one.wrong] == []
    assert {kill.what for kill in mixed.kills} == {"runner", "environment"}
    assert all(one.episodes for one in found)
    assert len(list(table(found, mixed.kills))) == 2 + len(tasks)
    picture(found, mixed.kills, tmp_path / "mixed.png")
    assert (tmp_path / "mixed.png").stat().st_size > 10_000
