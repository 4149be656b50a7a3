"""One dead server of three is the trouble of its own streams alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults_shards import dead_shard


def test_a_dead_shard(tmp_path: Path) -> None:
    row = dead_shard(tmp_path, seconds=2)
    assert row.safe, row.said()


@pytest.mark.slow
def test_a_dead_shard_in_figures(tmp_path: Path) -> None:
    row = dead_shard(tmp_path, seconds=10)
    assert row.ok, row.said()
