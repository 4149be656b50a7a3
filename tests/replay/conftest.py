"""A real redis-server for the tests of the replay."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replay.config import ReplayConfig
from replay.shards.server import EmbeddedRedis

_runs = itertools.count()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), max_bytes=2**28)
    yield server.start()
    server.stop()


@pytest.fixture
def config(redis_url: str) -> ReplayConfig:
    return ReplayConfig(url=redis_url, chunk_steps=8)


@pytest.fixture
def run() -> str:
    """A namespace of its own for every test."""
    return f"test-{next(_runs)}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., EmbeddedRedis]]:
    """Makes servers that end with the test."""
    servers = []

    def make(directory: Path = tmp_path / "replay", max_bytes: int = 2**26, **options) -> EmbeddedRedis:
        servers.append(EmbeddedRedis(directory, max_bytes, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()
