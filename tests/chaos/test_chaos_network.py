"""Broken connections and absent servers cost time, never a chunk."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults_network import FAULTS, broken_connections, killed_in_outage, outage


def test_broken_connections(tmp_path: Path) -> None:
    row = broken_connections(tmp_path, *FAULTS, seconds=5)
    assert row.safe, row.said()


def test_a_hanging_server(tmp_path: Path) -> None:
    row = outage(tmp_path, seconds=2, hang=True)
    assert row.safe, row.said()


def test_a_writer_killed_in_an_outage(tmp_path: Path) -> None:
    row = killed_in_outage(tmp_path, chunks=10)
    assert row.safe, row.said()


@pytest.mark.slow
@pytest.mark.parametrize("mode", FAULTS)
def test_throughput_with_broken_connections(tmp_path: Path, mode: str) -> None:
    row = broken_connections(tmp_path, mode)  # type: ignore[arg-type]
    assert row.ok, row.said()


@pytest.mark.slow
@pytest.mark.parametrize("hang", [False, True])
def test_an_outage_of_half_a_minute(tmp_path: Path, hang: bool) -> None:
    row = outage(tmp_path, seconds=30, hang=hang)
    assert row.ok, row.said()
