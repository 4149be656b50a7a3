"""Suites of the main interpreter in processes of their own, alone, in a runner and in a fleet."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig, info_of, make
from actors.fleet import Fleet, FleetConfig, Member
from actors.hosting.config import HostConfig
from actors.hosting.errors import HostedEnvError
from actors.hosting.hosted import HostedEnv
from actors.policies import PolicySpec
from actors.results import CollectStats
from actors.runner import EnvRunner, RunnerConfig
from replay.config import ReplayConfig
from replay.errors import BadInput, TryAgain

RANDOM = PolicySpec(name="random")


def env_of(task: str, **settings) -> EnvConfig:
    return EnvConfig(task=task, image_size=8, render_size=8, hosted=True, **settings)


def played(env: gymnasium.Env, steps: int) -> Iterator[tuple]:
    env.action_space.seed(0)
    yield env.reset(seed=3)
    for _ in range(steps):
        yield env.step(env.action_space.sample())
    yield env.reset(seed=4)


@pytest.mark.parametrize("task", ["counting/5", "dmc/cartpole_swingup", "hybrid/platform"])
def test_it_is_the_same_environment_in_another_process(task: str) -> None:
    here, there = make(replace(env_of(task), hosted=False), 7), make(env_of(task), 7)
    try:
        assert isinstance(there.unwrapped, HostedEnv)
        assert there.observation_space == here.observation_space
        assert there.action_space == here.action_space
        assert info_of(there) == info_of(here)
        for ours, theirs in zip(played(here, 4), played(there, 4), strict=True):
            assert data_equivalence(dict(ours[0]), theirs[0], exact=True)
            assert ours[1:-1] == theirs[1:-1]
            assert data_equivalence(ours[-1], theirs[-1], exact=True)
        np.testing.assert_array_equal(here.render(), there.render())
    finally:
        here.close()
        there.close()


def test_our_errors_cross_the_border() -> None:
    with pytest.raises(BadInput, match="names no length"):
        make(env_of("counting/many"), 0)


def runner_of(task: str, replay: ReplayConfig | None, run: str, **settings) -> EnvRunner:
    return EnvRunner(
        0, env_of(task, **settings), RunnerConfig(envs_per_runner=2), replay, run, BehaviourConfig(), None, seed=7
    )


def test_a_runner_makes_a_dead_environment_again(replay: ReplayConfig, run: str) -> None:
    runner = runner_of("counting/20", replay, run)
    try:
        assert runner.collect(RANDOM, [0, 1]).episodes == 2
        victim = runner._envs[runner.env][0].unwrapped
        assert isinstance(victim, HostedEnv)
        os.kill(victim.pid, signal.SIGKILL)
        stats = runner.collect(RANDOM, [2, 3])
        assert stats.returns == (210.0, 210.0)
        assert stats.failures == {"died": 1}
    finally:
        runner.close()


def test_a_runner_whose_environments_cannot_be_made_or_hang(run: str) -> None:
    hang = runner_of("faulty/stall@1.0", None, run, host=HostConfig(step_s=0.5))
    try:
        for _ in range(2):
            with pytest.raises(HostedEnvError, match=r"no answer within 0\.5 s"):
                hang.evaluate(RANDOM, [0])
    finally:
        hang.close()


def collected(task: str, episodes: int, replay: ReplayConfig, run: str, **settings) -> CollectStats:
    fleet = Fleet(
        FleetConfig(quarantine_after=100, backoff_s=0.05, **settings),
        [Member(env=env_of(task), run=run, runners=2)],
        runner=RunnerConfig(envs_per_runner=1),
        replay=replay,
        system=None,
        seed=7,
    )
    try:
        return fleet.collect(RANDOM, range(episodes), None)
    finally:
        fleet.close()


def test_a_fleet_loses_no_episode_to_environments_that_die(cluster: None, replay: ReplayConfig, run: str) -> None:
    """The runner survives; its piece is played again."""
    stats = collected("faulty/kill@0.02", 6, replay, run, max_retries=30)
    assert stats.returns == (210.0,) * 6
    assert stats.episodes == 6


def test_a_fleet_whose_environments_die_each_time_says_so(cluster: None, replay: ReplayConfig, run: str) -> None:
    with pytest.raises(TryAgain, match=r"failed 3 times, .* killed by SIGKILL"):
        collected("faulty/kill@1.0", 1, replay, run, max_retries=2)
