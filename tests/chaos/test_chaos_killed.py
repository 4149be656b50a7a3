"""Killed processes take nothing with them that was acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults_killed import killed_servers, killed_writers


def test_killed_writers(tmp_path: Path) -> None:
    row = killed_writers(tmp_path, times=10)
    assert row.safe, row.said()


def test_killed_servers(tmp_path: Path) -> None:
    row = killed_servers(tmp_path, times=2)
    assert row.safe, row.said()


@pytest.mark.slow
def test_two_hundred_killed_writers(tmp_path: Path) -> None:
    row = killed_writers(tmp_path, times=200)
    assert row.ok, row.said()


@pytest.mark.slow
def test_twenty_killed_servers(tmp_path: Path) -> None:
    row = killed_servers(tmp_path, times=20)
    assert row.ok, row.said()
