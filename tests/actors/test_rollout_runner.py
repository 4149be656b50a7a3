from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from actors.behaviour import BehaviourConfig, Random
from actors.envs.registry import EnvConfig, make
from actors.policies import PolicySpec
from actors.rollout import rollout
from actors.runner import EnvRunner, RunnerConfig, episode_seed
from learners.agent import Agent, Observation
from learners.weights import Weights
from replay.config import ReplayConfig
from replay.errors import BadInput, Missing, TrainingFailed
from replay.schema import EpisodeSpec
from replay.sources.redis_source import RedisSource

RANDOM = PolicySpec(name="random")
COUNTING = EnvConfig(task="counting/5-12", image_size=4, render_size=8)


class Constant(nn.Module):
    """The smallest system: its only agent repeats its only weight."""

    def __init__(self, spec: EpisodeSpec) -> None:
        super().__init__()
        self.action = nn.Parameter(torch.zeros(spec["action"].shape))

    def agent(self, name: str, explored: int = 0) -> Agent:
        if name != "constant":
            raise KeyError("there is constant")
        return self

    def start(self, batch_size: int, seed: int) -> None:
        return None

    @torch.no_grad()
    def act(self, observation: Observation, carry: None, mode: str = "sample") -> tuple[np.ndarray, None]:
        assert "image" in observation.fields
        action: Tensor = self.action.expand(len(observation.is_first), -1)
        return action.numpy(), None

    def join(self, carries: Sequence[None]) -> None:
        return None

    def split(self, carry: None, sizes: Sequence[int]) -> list[None]:
        return [None] * len(sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantConfig:
    def build(self, spec: EpisodeSpec) -> Constant:
        return Constant(spec)


def runner(
    replay: ReplayConfig | None, run: str, env: EnvConfig = COUNTING, width: int = 3, index: int = 0
) -> EnvRunner:
    config = RunnerConfig(envs_per_runner=width)
    return EnvRunner(index, env, config, replay, run, BehaviourConfig(), ConstantConfig(), seed=7)


def check_alignment(arrays: dict[str, np.ndarray]) -> None:
    """What replay/schema.py promises, against an environment that says what it was told."""
    steps = len(arrays["reward"])
    np.testing.assert_array_equal(arrays["count"][:, 3], np.arange(steps))
    np.testing.assert_array_equal(arrays["reward"], np.arange(steps))  # the reward of step t is t, and 0 at first
    np.testing.assert_array_equal(arrays["action"], arrays["state"])  # the action beside its outcome
    np.testing.assert_array_equal(arrays["image"][:, 0, 0, 0], np.arange(steps))
    np.testing.assert_array_equal(arrays["is_first"], np.arange(steps) == 0)
    assert not arrays["is_last"][:-1].any()
    assert not arrays["is_terminal"].any()
    assert len(np.unique(arrays["count"][:, :3], axis=0)) == 1  # one environment, one episode, one seed


def test_records_are_aligned_and_episodes_never_mix() -> None:
    envs = [make(COUNTING, n) for n in range(3)]
    records = defaultdict(list)
    outcomes = rollout(
        envs, Random(2), range(10), agent_seed=0, sink=lambda number, record: records[number].append(record)
    )
    seeds, lengths = [], {}
    for stream in records.values():
        ends = [n for n, record in enumerate(stream) if record["is_last"]]
        for begin, end in zip([0, *(n + 1 for n in ends)], ends, strict=False):
            episode = {name: np.stack([r[name] for r in stream[begin : end + 1]]) for name in stream[0]}
            check_alignment(episode)
            seeds.append(int(episode["count"][0, 2]))
            lengths[seeds[-1]] = end - begin
    assert sorted(seeds) == list(range(10))
    assert [outcome.length for outcome in outcomes] == [lengths[seed] for seed in range(10)]
    assert len(set(lengths.values())) > 2  # the lanes do finish at different times
    assert [o.total_reward for o in outcomes] == [n * (n + 1) / 2 for n in (o.length for o in outcomes)]


def test_agents_see_the_last_action_and_where_episodes_begin() -> None:
    seen = []

    class Spy(Random):
        def act(self, observation: Observation, carry, mode="sample"):
            seen.append(observation)
            return super().act(observation, carry, mode)

    rollout([make(COUNTING, n) for n in range(2)], Spy(2), range(6), agent_seed=0)
    for observation in seen:
        np.testing.assert_array_equal(observation.previous_action, observation.fields["state"])
        is_zero = observation.fields["count"][:, 3] == 0
        np.testing.assert_array_equal(observation.is_first, is_zero)


def test_an_action_that_is_no_number_stops_the_rollout() -> None:
    class Broken(Random):
        def act(self, observation: Observation, carry, mode="sample"):
            return np.full((1, 2), np.nan, np.float32), carry

    with pytest.raises(TrainingFailed):
        rollout([make(COUNTING, 0)], Broken(2), [0], agent_seed=0)


def stored(replay: ReplayConfig, run: str, one: EnvRunner) -> dict[int, dict[str, np.ndarray]]:
    """Whole episodes in the replay by their seed."""
    source = RedisSource(replay, run, one.spec)
    source.refresh()
    keys = [*source.episodes("train"), *source.episodes("valid")]
    episodes = [dict(source.episode(key).arrays) for key in keys]
    return {int(arrays["count"][0, 2]): arrays for arrays in episodes if arrays["is_last"][-1]}


def test_collects_exactly_the_episodes_asked_for(replay: ReplayConfig, run: str) -> None:
    one = runner(replay, run)
    stats = one.collect(RANDOM, [3, 1, 4, 5, 9, 2, 6])
    again = one.collect(RANDOM, [20])
    episodes = stored(replay, run, one)
    assert set(episodes) == {episode_seed(7, number) for number in (3, 1, 4, 5, 9, 2, 6, 20)}
    for arrays in episodes.values():
        check_alignment(arrays)
    assert stats.steps + again.steps == sum(len(arrays["reward"]) for arrays in episodes.values())
    assert stats.episodes == len(stats.returns) == 7
    assert stats.returns[0] == episodes[episode_seed(7, 3)]["reward"].sum()
    one.close()


def test_the_same_call_gives_the_same_data_on_any_runner(replay: ReplayConfig, run: str) -> None:
    found = []
    for index in range(2):
        name = f"{run}-{index}"
        one = runner(replay, name, index=index)
        if index:
            one.collect(RANDOM, [0, 1])  # what it did before does not matter
        one.collect(RANDOM, [5, 6, 7, 8])
        found.append(stored(replay, name, one))
        one.close()
    for seed, arrays in found[0].items():
        np.testing.assert_array_equal(arrays["action"], found[1][seed]["action"])


def test_weights_reach_the_policy_and_their_version_the_replay(replay: ReplayConfig, run: str) -> None:
    one = runner(replay, run)
    for version, value in ((1, 0.25), (2, -0.5)):
        weights = Weights(version=version, arrays={"action": np.full(2, value, np.float32)})
        assert one.set_weights(weights) == version
        one.collect(PolicySpec(name="constant"), [version])
    source = RedisSource(replay, run, one.spec)
    source.refresh()
    found = {}
    for key in [*source.episodes("train"), *source.episodes("valid")]:
        episode = source.episode(key)
        assert episode.source == "constant"
        found[episode.policy_version] = episode.arrays["action"][1:]
    assert {version: float(np.unique(action).item()) for version, action in found.items()} == {1: 0.25, 2: -0.5}
    one.close()


def test_evaluation_is_paired_and_needs_no_renderer_for_the_scripted() -> None:
    env = EnvConfig(task="dmc/cartpole_balance", time_limit_s=0.2)
    one = runner(None, "", env, width=2)
    one.set_weights(Weights(version=1, arrays={"action": np.zeros(1, np.float32)}))
    scripted = one.evaluate(PolicySpec(name="expert", mode="mode"), [5, 6, 7], keep_frames=1)
    trained = one.evaluate(PolicySpec(name="constant"), [5, 6, 7], keep_frames=2)
    assert [(r.seed, r.policy, r.mode, r.length) for r in scripted] == [(s, "expert", "mode", 5) for s in (5, 6, 7)]
    assert [r.frames is None for r in scripted] == [False, True, True]
    assert [r.frames is None for r in trained] == [False, False, True]
    assert scripted[0].frames is not None
    assert trained[0].frames is not None
    assert scripted[0].frames.shape == (6, 96, 96, 3)
    np.testing.assert_array_equal(scripted[0].frames[0], trained[0].frames[0])  # the same start
    assert one.evaluate(PolicySpec(name="expert"), [5])[0].total_reward == pytest.approx(scripted[0].total_reward)
    one.close()


def test_reward_that_is_no_number_is_refused(replay: ReplayConfig, run: str) -> None:
    one = runner(replay, run, EnvConfig(task="faulty/nan@4", image_size=4))
    with pytest.raises(BadInput, match="reward is nan at step 5"):
        one.collect(RANDOM, [0])
    source = RedisSource(replay, run, one.spec)
    source.refresh()
    assert not any(source.episode(k).arrays["is_last"].any() for k in source.episodes("train"))
    one.close()


def test_a_crash_leaves_a_runner_that_works(replay: ReplayConfig, run: str) -> None:
    one = runner(replay, run, EnvConfig(task="faulty/crash@1.0", image_size=4), width=1)
    with pytest.raises(RuntimeError, match="as it was asked to"):
        one.collect(RANDOM, [0])
    one.env = EnvConfig(task="counting/5", image_size=4)
    one.collect(RANDOM, [0])
    episodes = stored(replay, run, one)
    assert len(episodes) == 1
    check_alignment(episodes[episode_seed(7, 0)])
    one.close()


class Stubborn(gymnasium.Wrapper):
    """Cannot be closed."""

    def close(self) -> None:
        raise OSError("the renderer is gone")


def test_one_that_cannot_be_closed_is_not_played_with_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = runner(None, "", EnvConfig(task="faulty/crash@1.0", image_size=4), width=2)
    made: list[gymnasium.Env] = []

    def stubborn(config: EnvConfig, seed: int) -> gymnasium.Env:
        made.append(Stubborn(make(config, seed)))
        return made[-1]

    monkeypatch.setattr("actors.runner.make", stubborn)
    for times in (1, 2):
        with pytest.raises(RuntimeError, match="as it was asked to"):  # and not what closing it says
            one.evaluate(RANDOM, [0, 1])
        assert len(made) == 2 * times


def test_when_one_cannot_be_made_the_others_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    one = runner(None, "", width=3)
    closed: list[int] = []

    class Told(gymnasium.Wrapper):
        def close(self) -> None:
            closed.append(1)

    def lacking(config: EnvConfig, seed: int) -> gymnasium.Env:
        if seed == episode_seed(7, 2):
            raise Missing("There is no third.", "Buy one.")
        return Told(make(config, seed))

    monkeypatch.setattr("actors.runner.make", lacking)
    with pytest.raises(Missing):
        one.evaluate(RANDOM, [0, 1, 2])
    assert closed == [1, 1]


def test_collecting_without_a_replay_and_unknown_policies_are_bad_input() -> None:
    with pytest.raises(BadInput, match="no replay"):
        runner(None, "").collect(RANDOM, [0])
    with pytest.raises(BadInput, match="'random'"):
        EnvRunner(0, COUNTING, RunnerConfig(), None, "", BehaviourConfig(), None, 0).evaluate(
            PolicySpec(name="randm"), [0]
        )
    one = runner(None, "")
    one.set_weights(Weights(version=1, arrays={"action": np.zeros(2, np.float32)}))
    with pytest.raises(BadInput, match="there is constant"):
        one.evaluate(PolicySpec(name="constnt"), [0])
    with pytest.raises(BadInput, match="Unknown expert"):
        one.evaluate(PolicySpec(name="expert"), [0])
