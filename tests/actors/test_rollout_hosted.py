"""Environments in processes of their own, in a vector: they work at the same time, in groups, and fail alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MethodType

import gymnasium
import numpy as np
import pytest

from actors.behaviour import BehaviourConfig, Random
from actors.envs.flat_action import flat
from actors.envs.registry import EnvConfig, make
from actors.hosting.config import HostConfig
from actors.hosting.errors import HostedEnvError
from actors.hosting.hosted import HostedEnv
from actors.hosting.process import GuestSpec
from actors.policies import PolicySpec
from actors.rollout import Repair, Tally, rollout
from actors.runner import EnvRunner, RunnerConfig, episode_seed
from replay.config import ReplayConfig
from replay.sources.redis_source import RedisSource

RANDOM = PolicySpec(name="random")
COUNTING = EnvConfig(task="counting/5-12", image_size=4, render_size=8)
GUESTS = Path(__file__).with_name("rollout_guests.py")
Episodes = dict[int, dict[str, np.ndarray]]
MakeRunner = Callable[..., EnvRunner]


@pytest.fixture
def runner(replay: ReplayConfig) -> Iterator[MakeRunner]:
    made: list[EnvRunner] = []

    def make_runner(env: EnvConfig, run: str, width: int, group: int, retries: int = 3) -> EnvRunner:
        config = RunnerConfig(envs_per_runner=width, group=group, env_retries=retries)
        made.append(EnvRunner(0, env, config, replay, run, BehaviourConfig(), None, seed=7))
        return made[-1]

    yield make_runner
    for one in made:
        one.close()


def stored(replay: ReplayConfig, run: str, one: EnvRunner) -> tuple[Episodes, list[dict[str, np.ndarray]]]:
    """Whole episodes in the replay by their seed, each there once; and those that were cut short."""
    source = RedisSource(replay, run, one.spec)
    source.refresh()
    whole: Episodes = {}
    cut = []
    for key in [*source.episodes("train"), *source.episodes("valid")]:
        arrays = dict(source.episode(key).arrays)
        np.testing.assert_array_equal(arrays["count"][:, 3], np.arange(len(arrays["reward"])))
        assert len(np.unique(arrays["count"][:, :3], axis=0)) == 1
        seed = int(arrays["count"][0, 2])
        if arrays["is_last"][-1]:
            assert seed not in whole
            whole[seed] = arrays
        else:
            cut.append(arrays)
    return whole, cut


def seeds(numbers: list[int]) -> set[int]:
    return {episode_seed(7, number) for number in numbers}


def check_same(first: Episodes, second: Episodes) -> None:
    """But for the environment that played them, and how many it had played before."""
    assert first.keys() == second.keys()
    for seed, arrays in first.items():
        for name, values in arrays.items():
            ours, theirs = (v[:, 2:] if name == "count" else v for v in (values, second[seed][name]))
            np.testing.assert_array_equal(ours, theirs)


def test_an_episode_is_the_same_in_any_group_and_company(runner: MakeRunner, replay: ReplayConfig, run: str) -> None:
    """Environments in processes of their own become ready in any order; what they play does not depend on it."""
    numbers = [5, 6, 7, 8, 9, 10, 11]
    found = []
    for name, width, group, hosted in (("a", 3, 0, False), ("b", 3, 1, True), ("c", 4, 2, True)):
        one = runner(replace(COUNTING, hosted=hosted), f"{run}-{name}", width, group)
        stats = one.collect(RANDOM, numbers)
        whole, cut = stored(replay, f"{run}-{name}", one)
        assert not cut
        assert whole.keys() == seeds(numbers)
        assert stats.lengths == tuple(len(whole[episode_seed(7, number)]["reward"]) - 1 for number in numbers)
        assert one.steps == stats.env_steps == sum(stats.lengths) == stats.steps - len(numbers)
        found.append(whole)
    for other in found[1:]:
        check_same(found[0], other)


@contextmanager
def meeting(folder: Path, **awaited: str) -> Iterator[list[gymnasium.Env]]:
    """Guests of these names, and the file that each awaits."""
    config = HostConfig(step_s=20.0)
    made: list[gymnasium.Env] = []
    try:
        for name, file in awaited.items():
            arguments = {"folder": str(folder), "name": name, "awaited": file}
            made.append(flat(HostedEnv(GuestSpec(name=name, factory=f"{GUESTS}:Meeting", arguments=arguments), config)))
        yield made
    finally:
        for env in made:
            env.close()


@pytest.mark.parametrize("group", [0, 1, 2])
def test_environments_work_at_the_same_time(tmp_path: Path, group: int) -> None:
    """None of the three ends its step before the others have begun theirs."""
    with meeting(tmp_path, a="b-{step}", b="c-{step}", c="a-{step}") as envs:
        outcomes = rollout(envs, Random(2), [0, 1, 2], 0, group=group)
    assert [(outcome.length, outcome.success) for outcome in outcomes] == [(5, True)] * 3


def test_groups_go_on_without_each_other(tmp_path: Path) -> None:
    """The first one's first step lasts until the second one's last."""
    numbers: list[int] = []
    with meeting(tmp_path, slow="quick-5", quick="quick-{step}") as envs:
        rollout(envs, Random(2), [0, 1], 0, sink=lambda number, _: numbers.append(number), group=1)
    assert Counter(numbers) == {0: 6, 1: 6}


def test_those_that_decide_together_wait_for_each_other(tmp_path: Path) -> None:
    with meeting(tmp_path, slow="quick-2", quick="quick-{step}") as envs:
        envs[0].unwrapped.config = HostConfig(step_s=0.5)  # type: ignore[attr-defined]
        with pytest.raises(HostedEnvError, match=r"slow was stopped in `step`: no answer within 0\.5 s"):
            rollout(envs, Random(2), [0, 1], 0)


@pytest.mark.parametrize(("fault", "group"), [("kill", 0), ("stall", 1), ("crash", 2)])
def test_one_that_fails_leaves_the_others_whole(
    runner: MakeRunner, replay: ReplayConfig, run: str, fault: str, group: int
) -> None:
    host = HostConfig(step_s=0.5) if fault == "stall" else HostConfig()  # a good step may be slow
    env = replace(COUNTING, task=f"faulty/{fault}@0.02", hosted=True, host=host)
    one = runner(env, run, width=4, group=group, retries=30)
    numbers = list(range(8))
    stats = one.collect(RANDOM, numbers)
    whole, cut = stored(replay, run, one)
    assert whole.keys() == seeds(numbers)
    kind = {"kill": "died", "crash": "raised", "stall": "timeout"}[fault]
    assert set(stats.failures) <= {kind}
    assert len(cut) <= sum(stats.failures.values())  # one that fails before its first chunk is full leaves that part
    assert stats.returns == (210.0,) * 8
    assert stats.env_steps == sum(len(arrays["reward"]) - 1 for arrays in [*whole.values(), *cut])
    assert stats.steps == sum(len(arrays["reward"]) for arrays in [*whole.values(), *cut])
    good = runner(replace(COUNTING, task="counting/20"), f"{run}-good", width=4, group=0)
    good.collect(RANDOM, numbers)
    check_same(whole, stored(replay, f"{run}-good", good)[0])


@pytest.mark.parametrize("group", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_one_killed_from_outside_again_and_again(
    runner: MakeRunner, replay: ReplayConfig, run: str, group: int
) -> None:
    env = replace(COUNTING, task="counting/400", hosted=True)
    one = runner(env, run, width=4, group=group, retries=100)
    one._take_envs(env, 4)  # they are up
    killed, over = 0, threading.Event()

    def kill() -> None:
        nonlocal killed
        while killed < 6 and not over.wait(0.2):
            inner = one._envs[env][killed % 4].unwrapped
            if isinstance(inner, HostedEnv) and inner._process is not None:
                os.kill(inner.pid, signal.SIGKILL)
                killed += 1

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        stats = one.collect(RANDOM, list(range(8)))
    finally:
        over.set()
        killer.join()
    whole, cut = stored(replay, run, one)
    assert whole.keys() == seeds(list(range(8)))
    assert 0 < stats.failures["died"] <= killed
    assert len(cut) <= stats.failures["died"]
    assert stats.retries == 0


def test_one_that_fails_too_often_is_given_up(runner: MakeRunner, run: str) -> None:
    one = runner(replace(COUNTING, task="faulty/kill@1.0", hosted=True), run, width=2, group=1, retries=1)
    for times in (1, 2):  # the runner itself goes on
        with pytest.raises(HostedEnvError, match="killed by SIGKILL"):
            one.collect(RANDOM, [0, 1])
        assert one.failures["died"] >= 2 * times
        assert not one._envs
    deadline = time.monotonic() + 20.0
    while guests() and time.monotonic() < deadline:  # also those that were being made when it ended
        time.sleep(0.05)
    assert not guests()


def guests() -> list[int]:
    """Processes of hosted environments below this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"hosting/child.py" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("failures", [2, 3])
def test_one_that_cannot_be_made_again(failures: int) -> None:
    """The failures to make it count as the episode's, too."""
    tally, tried = Tally(), 0

    def again(number: int) -> gymnasium.Env:
        nonlocal tried
        tried += 1
        if tried < failures:
            raise HostedEnvError("It does not start.", "Wait.", "timeout")
        return make(replace(COUNTING, task="counting/6"), number)

    envs = [make(replace(COUNTING, task=task), 0) for task in ("counting/6", "counting/9")]
    envs[0].step = Broken()  # type: ignore[method-assign]

    def play() -> list[int]:
        repair = Repair(make=again, retries=2)
        return [outcome.length for outcome in rollout(envs, Random(2), [0, 1], 0, repair=repair, tally=tally)]

    if failures == 2:
        assert play() == [6, 9]
        assert isinstance(envs[0].step, MethodType)
    else:
        with pytest.raises(HostedEnvError, match="does not start"):
            play()
    assert tally.failures == {"died": 1, "timeout": failures - 1}


class Broken:
    def __call__(self, action: np.ndarray) -> None:
        raise HostedEnvError("It died.", "Make it again.")
