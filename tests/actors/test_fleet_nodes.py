"""Machines that join and leave while a fleet works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from fleet_kit import Feeder, fleets, seeds, whole_episodes
from ray.cluster_utils import Cluster

from replay.config import ReplayConfig


@pytest.fixture
def machines() -> Iterator[Any]:
    """One with a single CPU; others may join."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=found.address, log_to_driver=False, configure_logging=False)
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_joins_and_is_lost(machines: Any, replay: ReplayConfig, run: str) -> None:
    """Runners without room wait for a node and work as soon as it is there; when it is gone, the others go on."""
    with fleets(replay, run) as make:
        one = make("counting/300", width=1, runners=3)
        feeder = Feeder(one, ahead=4)
        feeder.until(lambda status: sum(runner.episodes for runner in status) >= 3)
        assert sorted(runner.state for runner in one.status()) == ["busy", "starting", "starting"]
        node = machines.add_node(num_cpus=2)
        feeder.until(lambda status: all(runner.episodes for runner in status))
        assert len({runner.node for runner in one.status()}) == 2
        machines.remove_node(node, allow_graceful=False)
        feeder.until(lambda status: sum(runner.failures.get("died", 0) for runner in status) == 2)
        feeder.until(lambda status: sorted(runner.state for runner in status) == ["busy", "starting", "starting"])
        machines.add_node(num_cpus=2)
        feeder.until(lambda status: [runner.state for runner in status] == ["busy"] * 3)
        assert feeder.finish() == list(range(feeder.given))
        assert set(whole_episodes(replay, run, "counting/300")) == set(seeds(feeder.given))
