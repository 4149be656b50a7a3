"""A server that comes back without what it acknowledged is found out at once, and nothing is written over the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults_lost import emptied, goes_on, rewound


def test_an_emptied_server_stops_everyone(tmp_path: Path) -> None:
    row = emptied(tmp_path)
    assert row.safe, row.said()


def test_a_server_with_older_data_stops_everyone(tmp_path: Path) -> None:
    row = rewound(tmp_path)
    assert row.safe, row.said()


@pytest.mark.parametrize("empty", [True, False])
def test_everyone_goes_on_if_told_to(tmp_path: Path, empty: bool) -> None:
    row = goes_on(tmp_path, empty)
    assert row.safe, row.said()
