"""Commands are called in this process."""

from __future__ import annotations

import pytest

from distwm import cli


@pytest.fixture(autouse=True)
def _in_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under pytest, `actors` may be the folder of its tests."""
    monkeypatch.setattr(cli, "misplaced", lambda: None)
