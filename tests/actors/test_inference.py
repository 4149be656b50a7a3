"""Shared inference on a real Ray: the same episodes as without, through deaths, new weights and clients that vanish."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray
from remembering import RememberingConfig, weights

from actors.envs.registry import EnvConfig, episode_spec, make
from actors.inference import InferenceConfig, InferenceError, InferenceService, Lent, RemoteAgent
from actors.inference.messages import Health
from actors.policies import PolicySpec
from actors.rollout import rollout
from learners.agent import Agent, Observation
from replay.errors import BadInput

ENV = EnvConfig(task="counting/20-40", image_size=4, render_size=8)
SEEDS = list(range(12))

Serve = Callable[..., InferenceService]
Actions = dict[int, np.ndarray]  # (T, A) by seed of the episode


@pytest.fixture(scope="module")
def served(cluster: None) -> Iterator[Serve]:
    """Actors start slowly, so tests share them."""
    made: dict[str, InferenceService] = {}

    def start(**options: Any) -> InferenceService:
        if str(options) not in made:
            config = InferenceConfig(**{"actors": 1, "cpus": 0.5, "wait_s": 0.05, "deadline_s": 60.0} | options)
            made[str(options)] = InferenceService(config, RememberingConfig(), episode_spec(ENV))
        return made[str(options)]

    yield start
    for one in made.values():
        one.close()


@pytest.fixture
def service(served: Serve) -> InferenceService:
    return served()


@pytest.fixture
def hasty(served: Serve) -> InferenceService:
    """It forgets soon and takes little time for a decision, but waits long for others."""
    return served(wait_s=5.0, expire_s=3.0, deadline_s=2.0)


def lent(version: int) -> Lent:
    return Lent(version=version, ref=ray.put(weights(version)))


def agent(
    service: InferenceService, number: int, version: int = 1, name: str = "remembering", deadline_s: float = 60.0
) -> RemoteAgent:
    inference = replace(service.inference, deadline_s=deadline_s)
    return inference.agent(number, PolicySpec(name=name), lent(version))


def local(version: int) -> Agent:
    system = RememberingConfig().build(episode_spec(ENV))
    weights(version).apply(system)
    return system.agent("remembering")


def play(one: Agent, seeds: list[int], group: int = 2) -> Actions:
    """Four environments; episodes that were not whole are left out."""
    steps: list[dict[str, np.ndarray]] = []
    rollout(
        [make(ENV, n) for n in range(4)], one, seeds, 0, sink=lambda _, record: steps.append(dict(record)), group=group
    )
    found: dict[int, list[np.ndarray]] = {}
    for step in steps:
        seed = int(step["count"][2])
        found[seed] = [] if step["is_first"] else [*found[seed], step["action"]]
    return {seed: np.stack(actions) for seed, actions in found.items()}


def health(service: InferenceService) -> Health:
    return ray.get(service.handles[0].health.remote(), timeout=30)


def same(found: Actions, expected: Actions) -> None:
    assert found.keys() == expected.keys()
    for seed, actions in found.items():
        np.testing.assert_array_equal(actions, expected[seed])


def observe(step: int, is_first: bool) -> Observation:
    """One row."""
    fields = {"count": np.full((1, 4), step)}
    return Observation(fields=fields, previous_action=np.zeros((1, 2), np.float32), is_first=np.array([is_first]))


def one_by_one(one: Agent, steps: int, carry: Any = None) -> Any:
    """Decisions for a batch of one row, from its first or from `carry` on."""
    first = carry is None
    carry = one.start(1, 0) if first else carry
    for step in range(steps):
        _, carry = one.act(observe(step, first and step == 0), carry)
    return carry


def test_three_runners_of_two_groups_act_as_they_would_alone(service: InferenceService) -> None:
    before = health(service)
    with ThreadPoolExecutor(3) as pool:
        parts = pool.map(lambda n: play(agent(service, n), SEEDS[n::3]), range(3))
        found = {seed: actions for part in parts for seed, actions in part.items()}
    same(found, play(local(1), SEEDS, group=0))
    known = health(service)
    assert known.decisions - before.decisions == sum(len(actions) for actions in found.values())


def test_each_runner_has_the_weights_that_it_was_given(service: InferenceService) -> None:
    """Newer ones come while episodes go on: those are acted to their ends by what they began with."""
    old, alone = agent(service, 0, version=11), local(11)
    carry, memory = old.start(1, 0), alone.start(1, 0)
    for step in range(6):
        if step == 3:
            same(play(agent(service, 1, version=12), SEEDS[4:8]), play(local(12), SEEDS[4:8]))
        found, carry = old.act(observe(step, step == 0), carry)
        expected, memory = alone.act(observe(step, step == 0), memory)
        np.testing.assert_array_equal(found, expected)
    assert {11, 12} <= set(health(service).versions)
    old.close()
    play(agent(service, 1, version=13), SEEDS[:1])
    assert 11 not in health(service).versions  # nobody uses it any more
    assert 13 in health(service).versions


def test_a_killed_actor_costs_the_episodes_under_way_and_no_more(service: InferenceService) -> None:
    waiting = agent(service, 1)
    carry = one_by_one(waiting, 2)
    before = health(service)
    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(play, agent(service, 0, name="slow"), SEEDS[:4])
        until(lambda: health(service).decisions > before.decisions + 10)
        os.kill(before.pid, signal.SIGKILL)
        with pytest.raises(InferenceError, match="runner0") as caught:
            playing.result(60)
    assert caught.value.kind in ("died", "forgotten")
    same(play(agent(service, 0), SEEDS[:4]), play(local(1), SEEDS[:4]))  # waits for the new process
    with pytest.raises(InferenceError) as caught:
        one_by_one(waiting, 1, carry)
    assert caught.value.kind == "forgotten"


def test_an_agent_that_is_closed_asks_no_more(service: InferenceService) -> None:
    """Its threads wait for a new process of the actor: what that remembers belongs to the next agent by then."""
    os.kill(health(service).pid, signal.SIGKILL)
    one, calls = agent(service, 0), 3
    waiting = [one.begin_act(observe(0, is_first=True), one.start(1, 0)) for _ in range(calls)]
    one.close()
    following = agent(service, 0)
    carry = one_by_one(following, 1)
    for future in waiting:
        with pytest.raises((InferenceError, CancelledError)):
            future.result(60)
    one_by_one(following, 3, carry)


def test_a_runner_that_begins_anew_and_episodes_that_end_leave_nothing(service: InferenceService) -> None:
    for number in range(3):
        agent(service, number).close()  # what other tests left
        one_by_one(agent(service, number), 1)
    before = health(service).remembered
    other = agent(service, 0)
    carry = one_by_one(other, 1)  # the first agent of that runner is gone, and its carry with it
    assert health(service).remembered == before
    del carry
    carry = one_by_one(other, 1)
    assert health(service).remembered == before
    other.close()
    until(lambda: health(service).remembered == before - 1)
    assert carry


def test_what_the_agent_raises_is_raised_to_who_asked(service: InferenceService) -> None:
    with pytest.raises(BadInput, match="there is remembering"):
        one_by_one(agent(service, 0, name="other"), 1)
    one = agent(service, 0)
    with pytest.raises(RuntimeError, match="below zero"):
        one.act(observe(-1, is_first=True), one.start(1, 0))
    one_by_one(agent(service, 0), 1)


def test_nobody_waits_for_others_that_are_all_there(hasty: InferenceService) -> None:
    one = agent(hasty, 0)
    carry = one_by_one(one, 1)
    begun = time.monotonic()
    one_by_one(one, 20, carry)
    assert time.monotonic() - begun < 10 * hasty.config.wait_s  # not even every other one did


def test_who_vanishes_is_forgotten(hasty: InferenceService) -> None:
    kept, gone = agent(hasty, 0), agent(hasty, 1)
    theirs = one_by_one(gone, 1)
    mine = one_by_one(kept, 1)
    assert health(hasty).remembered == 2
    until(lambda: one_by_one(kept, 1, mine) and health(hasty).remembered == 1)
    with pytest.raises(InferenceError) as caught:
        one_by_one(gone, 1, theirs)
    assert caught.value.kind == "forgotten"
    one_by_one(kept, 1, mine)


def test_a_decision_that_takes_too_long_says_so_and_the_actor_is_replaced(hasty: InferenceService) -> None:
    before = health(hasty).pid
    with pytest.raises(InferenceError, match="has not answered within") as caught:
        one_by_one(agent(hasty, 0, name="stuck", deadline_s=4.0), 1)
    assert caught.value.kind == "late"

    def replaced() -> bool:
        hasty.look()
        return hasty.figures()["inference_restarts"] == 1

    until(replaced)
    assert health(hasty).pid != before


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)
