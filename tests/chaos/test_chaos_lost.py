"""A server that comes back without what it acknowledged is found out at once, and nothing is written over the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults_lost import emptied, goes_on, rewound


def test_a_server_with_older_data_stops_everyone(tmp_path: Path) -> None:
    row = rewound(tmp_path)
    assert row.safe, row.said()


def test_everyone_goes_on_with_an_emptied_server_if_told_to(tmp_path: Path) -> None:
    row = goes_on(tmp_path, empty=True)
    assert row.safe, row.said()


@pytest.mark.slow
def test_an_emptied_server_stops_everyone(tmp_path: Path) -> None:
    row = emptied(tmp_path)
    assert row.ok, row.said()


@pytest.mark.slow
def test_everyone_goes_on_with_older_data_if_told_to(tmp_path: Path) -> None:
    row = goes_on(tmp_path, empty=False)
    assert row.ok, row.said()
