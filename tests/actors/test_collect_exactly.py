"""What a runner stores is, bit for bit, what the plainest loop makes of the same seeds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig, make
from actors.policies import PolicySpec
from actors.runner import POLICY_NOISE, EnvRunner, RunnerConfig, episode_seed
from replay.config import ReplayConfig
from replay.schema import EpisodeSpec
from replay.shards.router import Router
from replay.sources.redis_source import RedisSource

SEED, WIDTH = 7, 2
Arrays = dict[str, np.ndarray]


def played(config: EnvConfig, spec: EpisodeSpec, number: int) -> Arrays:
    """The episode of that number with random actions."""
    env, seed = make(config, 0), episode_seed(SEED, number)
    noise = int(np.random.SeedSequence([seed, POLICY_NOISE]).generate_state(1)[0])
    rng = np.random.default_rng(np.random.SeedSequence(noise).spawn(1)[0])
    width = spec["action"].shape[0]
    fields, _ = env.reset(seed=seed)
    rows = [[*fields.values(), np.zeros(width), 0.0, True, False, False]]
    while not rows[-1][-2]:
        action = rng.uniform(-1.0, 1.0, width).astype(np.float32)
        fields, reward, terminated, truncated, _ = env.step(action)
        rows.append([*fields.values(), action, reward, False, terminated or truncated, terminated])
    env.close()
    names = [*fields, "action", "reward", "is_first", "is_last", "is_terminal"]
    return {n: np.array(c, spec[n].dtype) for n, c in zip(names, zip(*rows, strict=True), strict=True)}


def stored(replay: ReplayConfig, run: str, spec: EpisodeSpec) -> Iterator[tuple[str, Arrays]]:
    """(stream, arrays) of the episodes in order."""
    source = RedisSource(replay, run, spec)
    source.refresh()
    for key in sorted([*source.episodes("train"), *source.episodes("valid")]):
        yield key.stream, dict(source.episode(key).arrays)
    source.close()


def chunks(replay: ReplayConfig, run: str) -> list[tuple[int, int, int, int]]:
    """(number, episode, first step, steps) of those of the first environment."""
    router = Router(replay, run)
    entries = [entry for shard in router.shards for _, entry in shard.tail(0)]
    router.close()
    assert {(entry.source, entry.policy_version, entry.id.incarnation) for entry in entries} == {("random", 0, 1)}
    mine = [entry for entry in entries if entry.id.stream == "runner0/env0"]
    return [(entry.id.seq, entry.episode, entry.first_step, entry.steps) for entry in mine]


@pytest.mark.parametrize("time_limit_s", [5.0, 5.08])  # 125 and 127 decisions
def test_stored_episodes_are_those_of_the_plainest_loop(replay: ReplayConfig, run: str, time_limit_s: float) -> None:
    """Of 126 and 128 records; chunks of the latter end with the episode."""
    config = EnvConfig(task="dmc/cartpole_swingup", pixels=False, time_limit_s=time_limit_s)
    one = EnvRunner(0, config, RunnerConfig(envs_per_runner=WIDTH), replay, run, BehaviourConfig(), None, seed=SEED)
    numbers = [4, 9, 2, 5]
    stats = one.collect(PolicySpec(name="random"), numbers)
    one.close()
    expected = [played(config, one.spec, number) for number in numbers]
    found = list(stored(replay, run, one.spec))
    length = len(expected[0]["reward"])
    assert [stream for stream, _ in found] == [f"runner0/env{n}" for n in (0, 0, 1, 1)]
    for (_, arrays), wanted in zip(found, (expected[n] for n in (0, 2, 1, 3)), strict=True):
        assert arrays.keys() == wanted.keys()
        for name, values in arrays.items():
            assert values.dtype == wanted[name].dtype
            np.testing.assert_array_equal(values, wanted[name])
    assert stats.lengths == (length - 1,) * 4
    assert stats.steps == 4 * length
    np.testing.assert_allclose(stats.returns, [episode["reward"].sum() for episode in expected], rtol=1e-5)
    size = replay.chunk_steps
    cuts = [(first, min(size, length - first)) for first in range(0, length, size)]
    assert chunks(replay, run) == [
        (n, n // len(cuts), *cut) for n, cut in enumerate(cut for _ in range(2) for cut in cuts)
    ]
