"""Following an action source: prefixes of chunks, what records keep of them; the scripted one, which looks ahead."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from itertools import pairwise

import numpy as np
import pytest

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig, describe, make
from actors.policies import PolicySpec, build
from actors.rollout import rollout
from actors.runner import EnvRunner, RunnerConfig, episode_seed
from actors.sources.agent import RemoteSourceAgent, SourceAgent, follow
from actors.sources.scripted import Scripted
from actors.sources.source import ActionChunk, Request, SourceConfig, SourceSpec
from learners.agent import Observation
from replay.config import ReplayConfig
from replay.errors import BadInput
from replay.sources.redis_source import RedisSource

ENV = EnvConfig(task="tabletop/pick_place", pixels=False)
SCRIPTED = SourceConfig(kind="scripted")
FOLLOW = PolicySpec(name="source")


class Telling:
    """Its chunks say what was asked: (episode, step, index in the chunk)."""

    spec = SourceSpec(action_dim=3, horizon=4, fps=20.0, fields=(), gripper="", provenance="a test")

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def act(self, requests: Sequence[Request]) -> ActionChunk:
        self.asked += requests
        chunks = [[(r.episode, r.step, i) for i in range(4)] for r in requests]
        nothing = np.zeros(len(requests))
        return ActionChunk(actions=np.array(chunks, np.float32), latency_s=nothing, source_s=nothing)

    def close(self) -> None: ...


def see(rows: int, is_first: bool = False) -> Observation:
    fields = {"state": np.arange(rows, dtype=np.float32)[:, None]}
    return Observation(fields=fields, previous_action=np.zeros((rows, 3)), is_first=np.full(rows, is_first))


@pytest.mark.parametrize("kind", [SourceAgent, RemoteSourceAgent])
def test_it_executes_the_first_actions_of_each_chunk(kind: type[SourceAgent]) -> None:
    source = Telling()
    agent = kind(source, "lift", 3)
    carry, told = agent.start(2, seed=5), []
    for _ in range(7):
        begin = getattr(agent, "begin_act", None)
        answer = begin(see(2), carry) if begin else agent.act(see(2), carry)
        actions, carry = answer.result(timeout=30) if isinstance(answer, Future) else answer
        plans = agent.plans(carry)
        np.testing.assert_array_equal(plans.actions[np.arange(2), plans.steps], actions)
        told.append(actions[0, 1:].tolist())
    assert told == [[0, 0], [0, 1], [0, 2], [3, 0], [3, 1], [3, 2], [6, 0]]
    assert [r.step for r in source.asked] == [0, 0, 3, 3, 6, 6]
    assert {r.prompt for r in source.asked} == {"lift"}
    assert [len(r.executed) for r in source.asked] == [0, 0, 3, 3, 3, 3]
    assert len({r.seed for r in source.asked}) == 6
    assert [r.fields["state"].item() for r in source.asked[:2]] == [0, 1]


def test_rows_that_joined_later_ask_for_themselves() -> None:
    source = Telling()
    agent = SourceAgent(source, "", 3)
    _, one = agent.act(see(1), agent.start(1, seed=0))
    both = agent.join([one, agent.start(1, seed=1)])
    for _ in range(3):
        _, both = agent.act(see(2), both)
    assert [r.step for r in source.asked] == [0, 0, 3]
    first, second = agent.split(both, [1, 1])
    assert [first.rows[0].step, second.rows[0].step] == [4, 3]


def test_a_codec_changes_what_is_executed() -> None:
    agent = SourceAgent(Telling(), "", 3, recode=lambda chunks: chunks + 1)
    actions, carry = agent.act(see(1), agent.start(1, seed=0))
    assert actions[0, 1:].tolist() == [1, 1]
    assert agent.plans(carry).actions[0, 2, 2] == 3


def test_scripted_chunks_foretell_what_the_expert_does() -> None:
    """The first actions of a chunk, executed, are those that later chunks begin with, up to errors of the model."""
    source, seen = Scripted(SCRIPTED, ENV), []
    agent = SourceAgent(source, "", 1)
    rollout([make(ENV, 0)], agent, [3], 1, sink=lambda _, record: seen.append(record), plan_steps=10)
    plans = np.stack([record["plan"] for record in seen[1:]])
    assert {int(record["plan_step"]) for record in seen[1:]} == {0}
    errors = [np.abs(before[5] - plans[n + 5][0]).mean() for n, before in enumerate(plans[:-5])]
    assert np.median(errors) < 0.01


def test_a_source_hears_the_numbers_of_episodes() -> None:
    """Not only what they draw from: recorded episodes are replayed by their numbers, each once."""
    heard: dict[int, set[int]] = {}

    class Heard(Scripted):
        def act(self, requests: Sequence[Request]) -> ActionChunk:
            for one in requests:
                heard.setdefault(one.number, set()).add(one.episode)
            return super().act(requests)

    rollout([make(ENV, n) for n in range(2)], SourceAgent(Heard(SCRIPTED, ENV), "", 5), [3, 9, 4], 1, numbers=[5, 6, 7])
    assert {number: len(episodes) for number, episodes in heard.items()} == {5: 1, 6: 1, 7: 1}


def test_scripted_episodes_differ_and_repeat() -> None:
    source = Scripted(SCRIPTED, ENV)
    state = make(ENV, 0).reset(seed=0)[0]["state"]

    def ask(episode: int) -> np.ndarray:
        none = np.zeros((0, 7), np.float32)
        request = Request(fields={"state": state}, prompt="", episode=episode, step=4, seed=0, executed=none)
        return source.act([request]).actions

    np.testing.assert_array_equal(ask(1), ask(1))
    assert np.abs(ask(1) - ask(2)).max() > 0.05
    assert ask(1).shape == (1, 10, 7)
    assert "scripted" in source.spec.provenance


def test_scripted_sources_need_an_arm_and_its_state() -> None:
    with pytest.raises(BadInput, match="expert"):
        Scripted(SCRIPTED, EnvConfig(task="dmc/walker_walk", pixels=False))
    with pytest.raises(BadInput, match="not a robot's arm"):
        Scripted(SCRIPTED, EnvConfig(task="dmc/cartpole_swingup", pixels=False))
    with pytest.raises(BadInput, match=r"env\.state=true"):
        Scripted(SCRIPTED, EnvConfig(task=ENV.task, state=False))


def test_records_keep_the_chunk_of_each_action(replay: ReplayConfig, run: str) -> None:
    width = RunnerConfig(envs_per_runner=2)
    runner = EnvRunner(0, ENV, width, replay, run, BehaviourConfig(), None, 7, source=SCRIPTED)
    stats = runner.collect(FOLLOW, range(3))
    runner.collect(PolicySpec(name="random"), [3])
    runner.close()
    assert stats.successes == (True, True, True)
    source = RedisSource(replay, run, describe(ENV, 10)[0])
    source.refresh()
    episodes = [source.episode(key) for key in source.episodes("train") + source.episodes("valid")]
    assert sorted(e.source for e in episodes) == ["random", "source", "source", "source"]
    for episode in episodes:
        plan, steps, action = (episode.arrays[name] for name in ("plan", "plan_step", "action"))
        assert steps[0] == -1
        assert not plan[0].any()
        if episode.source == "random":
            assert set(steps) == {-1}
            continue
        assert steps[1:].tolist() == [n % 5 for n in range(len(steps) - 1)]
        np.testing.assert_array_equal(plan[np.arange(1, len(plan)), steps[1:]], action[1:])
        for before, after in pairwise(range(1, len(plan))):
            assert steps[after] == 0 or np.array_equal(plan[before], plan[after])


def test_episodes_are_the_same_on_any_runner() -> None:
    widths = (1, 3)
    results = []
    for width in widths:
        runner = EnvRunner(
            width, ENV, RunnerConfig(envs_per_runner=width), None, "", BehaviourConfig(), None, 7, source=SCRIPTED
        )
        results.append([(r.length, r.total_reward) for r in runner.evaluate(FOLLOW, range(100, 104))])
        runner.close()
    assert results[0] == results[1]


def test_who_follows_nothing_is_told_so() -> None:
    spec, info = describe(ENV)
    with pytest.raises(BadInput, match=r"source\.kind"):
        build(FOLLOW, ENV, spec, BehaviourConfig(), None)
    following = follow(SCRIPTED, ENV, info)
    with pytest.raises(BadInput, match="tokenizer"):
        build(PolicySpec(name="source+layers3"), ENV, spec, BehaviourConfig(), None, following)
    assert following.prompt == info.task_text
    assert not following.needs_pixels


def test_initial_states_in_order_need_some() -> None:
    runner = EnvRunner(0, ENV, RunnerConfig(starts="in_order"), None, "", BehaviourConfig(), None, 7, source=SCRIPTED)
    with pytest.raises(BadInput, match="starts=seeded"):
        runner.evaluate(FOLLOW, [0])
    assert episode_seed(7, 0) != episode_seed(7, 1)
