"""Machines that join and leave while a fleet works, and what it is given of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from fleet_kit import Feeder, fleets, seeds, whole_episodes
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from replay.config import ReplayConfig


@pytest.fixture
def machines() -> Iterator[Any]:
    """One with a single CPU; others may join."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=found.address, log_to_driver=False, configure_logging=False)
    yield found
    ray.shutdown()
    found.shutdown()


@ray.remote(num_cpus=1)
def grow(replay: ReplayConfig, run: str, extra_cpus: float | None) -> list[str]:
    """What a driver in a placement group does, as Tune starts it; how the runners are in the end."""
    with fleets(replay, run) as make:
        one = make("counting/20", width=1, runners=1, extra_cpus=extra_cpus)
        one.resize(2)
        feeder, begun = Feeder(one, ahead=4), time.monotonic()
        feeder.until(lambda status: all(r.episodes for r in status) or (extra_cpus and time.monotonic() > begun + 10))
        feeder.finish()
        return [runner.state for runner in one.status()]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("extra_cpus", "second"), [(0.0, "idle"), (1.0, "starting")])
def test_runners_beyond_the_reserved_ones(
    machines: Any, replay: ReplayConfig, run: str, extra_cpus: float, second: str
) -> None:
    """The placement group has taken all CPUs: one more runner works if it may share them, and waits if not."""
    machines.add_node(num_cpus=1)
    group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}])
    assert group.wait(60)
    strategy = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)
    here = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}
    driver = grow.options(scheduling_strategy=strategy, runtime_env=here)
    states = ray.get(driver.remote(replay, run, extra_cpus), timeout=240)
    assert states == ["idle", second]


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
