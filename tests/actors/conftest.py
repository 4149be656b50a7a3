"""A real redis-server and a real Ray for the tests of the actors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from replay.config import ReplayConfig
from replay.shards.server import EmbeddedRedis

_runs = itertools.count()


@pytest.fixture(scope="session")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayConfig]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), max_bytes=2**28)
    yield ReplayConfig(url=server.start(), chunk_steps=8)
    server.stop()


@pytest.fixture
def run() -> str:
    """A namespace of its own for every test."""
    return f"actors-{next(_runs)}"


@pytest.fixture(scope="module")  # other folders' tests start a Ray of their own in the same process
def cluster() -> Iterator[None]:
    here = Path(__file__).parent
    paths = {"env_vars": {"PYTHONPATH": f"{here.parent.parent}:{here}"}}  # so that actors find the tests' own systems
    ray.init(
        "local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False, runtime_env=paths
    )
    yield
    ray.shutdown()
