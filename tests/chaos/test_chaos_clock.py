"""Order, eviction and waits depend on no wall clock."""

from __future__ import annotations

from pathlib import Path

from faults_clock import jumping_clocks


def test_jumping_clocks(tmp_path: Path) -> None:
    row = jumping_clocks(tmp_path, seconds=1)
    assert row.safe, row.said()
