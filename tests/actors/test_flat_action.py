"""Vectors for any action space: total to read, the same as gymnasium's own flattening where that is defined."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from actors.behaviour import Random
from actors.envs.flat_action import ActionCodec, FlatAction, flat, native_action_space
from actors.envs.registry import EnvConfig, make, spec_of
from actors.rollout import rollout
from replay.errors import BadInput

HYBRID = spaces.Tuple(
    (
        spaces.Discrete(3),
        spaces.Tuple((spaces.Box(0.0, 30.0, (1,)), spaces.Box(np.float32([0, -15]), np.float32([40, 15])))),
    )
)
SPACES = {
    "box": spaces.Box(-2.0, 6.0, (2, 3)),
    "whole": spaces.Box(-180, 180, (2,), np.int16),
    "discrete": spaces.Discrete(5, start=-1),
    "multi": spaces.MultiDiscrete([3, 2, 11]),
    "bits": spaces.MultiBinary(4),
    "hybrid": HYBRID,
    "dict": spaces.Dict({"camera": spaces.Box(-180.0, 180.0, (2,)), "jump": spaces.Discrete(2), "craft": HYBRID}),
    "one value": spaces.Box(0.2, 0.2, (1,)),
}
EVERY = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    return np.allclose(first, second, rtol=1e-5, atol=1e-5)


@EVERY
def test_reading_is_total_and_what_is_read_fits_the_space(space: spaces.Space) -> None:
    codec = ActionCodec(space)

    @settings(max_examples=60, deadline=None)
    @given(arrays(np.float32, codec.dim, elements=st.floats(-1024, 1024, width=32)))
    def check(vector: np.ndarray) -> None:
        action = codec.decode(vector)
        assert space.contains(action)
        again = codec.encode(action)
        assert again.dtype == np.float32
        assert np.abs(again).max() <= 1
        assert same(codec.decode(again), action)

    check()


@EVERY
def test_samples_survive_the_way_there_and_back(space: spaces.Space) -> None:
    codec = ActionCodec(space)
    space.seed(0)
    for _ in range(20):
        action = space.sample()
        assert same(codec.decode(codec.encode(action)), action)


@EVERY
def test_one_hot_parts_are_those_of_gymnasium(space: spaces.Space) -> None:
    codec = ActionCodec(space)
    assert codec.dim == spaces.flatdim(space)
    space.seed(1)
    action = space.sample()
    theirs = np.asarray(spaces.flatten(space, action), np.float64)
    discrete = (codec._low == -1) & (codec._high == 1)
    np.testing.assert_array_equal(codec.encode(action)[discrete], theirs[discrete])


def test_box_parts_are_scaled_to_their_bounds() -> None:
    codec = ActionCodec(HYBRID)
    choice, (first, second) = codec.decode(np.array([0, 1, 0, -1, 0, 1], np.float32))
    assert choice == 1
    np.testing.assert_array_equal(first, [0.0])
    np.testing.assert_array_equal(second, [20.0, 15.0])
    np.testing.assert_array_equal(codec.encode((1, (first, second))), np.float32([0, 1, 0, -1, 0, 1]))


def test_uniform_vectors_choose_uniformly() -> None:
    codec, rng = ActionCodec(spaces.Discrete(4)), np.random.default_rng(0)
    counts = np.bincount([codec.decode(rng.uniform(-1, 1, 4)) for _ in range(4000)], minlength=4)
    assert (abs(counts - 1000) < 120).all()


@pytest.mark.parametrize("space", [spaces.Box(-np.inf, np.inf, (2,)), spaces.Text(5)])
def test_spaces_without_a_vector_are_refused(space: spaces.Space) -> None:
    with pytest.raises(BadInput):
        ActionCodec(space)


class Echo(gymnasium.Env):
    """Its reward is the number that was chosen."""

    action_space = spaces.Discrete(3)
    observation_space = spaces.Dict({"state": spaces.Box(-1.0, 1.0, (1,))})

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.steps = 0
        return {"state": np.zeros(1, np.float32)}, {}

    def step(self, action: int) -> tuple[dict, float, bool, bool, dict]:
        self.steps += 1
        return {"state": np.zeros(1, np.float32)}, float(action), self.steps == 5, False, {"mine": 1}


def test_wraps_what_is_no_vector_in_the_unit_box_only() -> None:
    assert isinstance(flat(Echo()), FlatAction)
    env = make(EnvConfig(task="counting/3"), 0)
    assert flat(env) is env
    assert native_action_space(env) == env.action_space
    assert native_action_space(flat(Echo())) == spaces.Discrete(3)
    assert spec_of(flat(Echo()))["action"].shape == (3,)


def test_info_says_which_action_was_taken() -> None:
    env = flat(Echo())
    env.reset()
    _, reward, _, _, info = env.step(np.array([0.2, 0.9, -0.3], np.float32))
    assert (reward, info["mine"]) == (1.0, 1)
    np.testing.assert_array_equal(info["action"], [0.0, 1.0, 0.0])


def test_records_hold_the_action_that_was_taken() -> None:
    """Whatever vector a policy gives, the replay has one-hot actions, beside the reward that they brought."""
    records: list = []
    rollout([flat(Echo())], Random(3), [0], agent_seed=1, sink=lambda _, record: records.append(record))
    for record in records[1:]:
        assert sorted(record["action"]) == [0.0, 0.0, 1.0]
        assert record["action"].argmax() == record["reward"]
    assert not records[0]["action"].any()
