"""The command as a fixture."""

from collections.abc import Iterator

import pytest
from harness import Command


@pytest.fixture
def command() -> Iterator[Command]:
    command = Command()
    yield command
    command.end()
