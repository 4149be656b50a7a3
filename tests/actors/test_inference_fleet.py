"""A fleet whose runners share inference: the same episodes, the right versions, whole when the actor is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import ray
from remembering import RememberingConfig, weights

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig, episode_spec
from actors.fleet import Fleet, FleetConfig, Member, Work
from actors.inference import InferenceConfig
from actors.policies import PolicySpec
from actors.runner import EnvRunner, RunnerConfig, episode_seed
from replay.config import ReplayConfig
from replay.sources.redis_source import RedisSource

ENV = EnvConfig(task="counting/20-40", image_size=4, render_size=8)
POLICY = PolicySpec(name="remembering")
NUMBERS = range(12)

Episodes = dict[int, tuple[int, np.ndarray]]  # version of the weights and actions (T, A), by seed


@pytest.fixture
def fleet(cluster: None, replay: ReplayConfig, run: str) -> Iterator[Callable[..., Fleet]]:
    made: list[Fleet] = []

    def make(actors: int = 1) -> Fleet:
        inference = InferenceConfig(actors=actors, cpus=0.5, wait_s=0.01)
        config = FleetConfig(runners=3, cpus_per_runner=0.5, inference=inference)
        one = Fleet(
            config,
            [Member(env=ENV, run=run, runners=3)],
            runner=RunnerConfig(envs_per_runner=4, group=2),
            replay=replay,
            system=RememberingConfig(),
            seed=7,
        )
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def stored(replay: ReplayConfig, run: str) -> Episodes:
    """Whole episodes by seed; each is there once."""
    source = RedisSource(replay, run, episode_spec(ENV))
    source.refresh()
    found: Episodes = {}
    for key in [*source.episodes("train"), *source.episodes("valid")]:
        episode = source.episode(key)
        seed = int(episode.arrays["count"][0, 2])
        if episode.arrays["is_last"][-1]:
            assert seed not in found
            found[seed] = (episode.policy_version, episode.arrays["action"])
    return found


def expected(replay: ReplayConfig, run: str, version: int, numbers: range) -> Episodes:
    """What one runner that acts for itself collects."""
    name = f"{run}-alone{version}"
    one = EnvRunner(0, ENV, RunnerConfig(), replay, name, BehaviourConfig(), RememberingConfig(), 7)
    one.set_weights(weights(version))
    one.collect(POLICY, numbers)
    one.close()
    return stored(replay, name)


def same(found: Episodes, wanted: Episodes) -> None:
    assert found.keys() == wanted.keys()
    for seed, (version, actions) in found.items():
        assert version == wanted[seed][0]
        np.testing.assert_array_equal(actions, wanted[seed][1])


def test_collects_and_evaluates_what_runners_would_alone(
    fleet: Callable[..., Fleet], replay: ReplayConfig, run: str
) -> None:
    shared, alone = fleet(), fleet(actors=0)
    ref = ray.put(weights(3))
    stats = shared.collect(POLICY, NUMBERS, ref)
    assert (stats.episodes, stats.retries) == (len(NUMBERS), 0)
    same(stored(replay, run), expected(replay, run, 3, NUMBERS))
    seeds = list(range(100, 108))
    assert shared.evaluate(POLICY, seeds, ref) == alone.evaluate(POLICY, seeds, ref)
    assert shared.figures()["inference_batch"] >= 1
    assert "inference_batch" not in alone.figures()


def test_new_weights_on_the_way_and_a_killed_actor(fleet: Callable[..., Fleet], replay: ReplayConfig, run: str) -> None:
    """Work with other weights comes in while the first goes on; then the actor is killed in the middle."""
    one, slow = fleet(), PolicySpec(name="slow")
    assert one.inference is not None
    killed, actor = False, one.inference.handles[0]
    for version in (1, 2):
        ref = ray.put(weights(version))
        for begin in range(10 * version, 10 * version + 8, 4):
            numbers = tuple(range(begin, begin + 4))
            one.submit(Work(policy=slow, numbers=numbers, weights=ref, version=version))
    done, deadline = [], time.monotonic() + 120
    while len(done) < 4:
        assert time.monotonic() < deadline
        done += one.poll(0.1)
        if not killed and (health := ray.get(actor.health.remote(), timeout=30)).decisions > 30:
            os.kill(health.pid, signal.SIGKILL)
            killed = True
    assert killed
    assert all(each.error is None for each in done)
    assert one.figures()["failures_inference"] > 0
    found = stored(replay, run)
    for version in (1, 2):
        numbers = range(10 * version, 10 * version + 8)
        seeds = {episode_seed(7, number) for number in numbers}
        mine = {seed: episode for seed, episode in found.items() if seed in seeds}
        same(mine, expected(replay, run, version, numbers))
