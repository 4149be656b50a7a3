"""Many records at once are what the same records are one by one: stored, cut into chunks, refused."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replay_cases import SPEC, make_steps

from replay.config import ReplayConfig
from replay.errors import BadInput
from replay.schema import Entry
from replay.shards.router import Router
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter

Step = dict[str, np.ndarray]


def episode(length: int, seed: int) -> list[Step]:
    arrays = make_steps(length, seed)
    return [{name: np.array(array[t]) for name, array in arrays.items()} for t in range(length)]


def entries(config: ReplayConfig, run: str) -> list[Entry]:
    """But for the checksums, since the run's name is in the bodies."""
    router = Router(config, run)
    try:
        return [replace(entry, checksum=0) for shard in router.shards for _, entry in shard.tail(0)]
    finally:
        router.close()


def stored(config: ReplayConfig, run: str) -> list[dict[str, np.ndarray]]:
    source = RedisSource(config, run, SPEC)
    keys = sorted([*source.episodes("train"), *source.episodes("valid")])
    found = [dict(source.episode(key).arrays) for key in keys]
    source.close()
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=4), data=st.data())
def test_the_same_chunks_as_one_by_one(config: ReplayConfig, run: str, lengths: list[int], data: st.DataObject) -> None:
    """Cut anywhere: inside an episode, across its end; the first one may stop before its end."""
    steps = [step for seed, length in enumerate(lengths) for step in episode(length, seed)]
    steps = steps[: lengths[0] - 1] + steps[lengths[0] :] if data.draw(st.booleans(), "cut short") else steps
    number = secrets.token_hex(8)  # drawn ones would come again
    one, many = ReplayWriter(config, f"{number}-a", "s", SPEC), ReplayWriter(config, f"{number}-b", "s", SPEC)
    for t, step in enumerate(steps):
        one.add(step, source="x", policy_version=t // 30)
    done = 0
    while done < len(steps):
        count = min(data.draw(st.integers(1, 20), "page"), 30 - done % 30)
        many.add_all(steps[done : done + count], source="x", policy_version=done // 30)
        done += count
    one.close()
    many.close()
    assert entries(config, f"{number}-a") == entries(config, f"{number}-b")
    for first, second in zip(stored(config, f"{number}-a"), stored(config, f"{number}-b"), strict=True):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def spoilt(name: str, value: object) -> Sequence[Step]:
    steps = episode(12, 0)
    steps[5] = steps[5] | {name: np.asarray(value)}
    return steps


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("reward", np.float32(np.nan), "'reward' is nan"),
        ("reward", 1.0, "dtype float64"),
        ("state", np.zeros(4, np.float32), "shape"),
        ("is_last", np.zeros(2, bool), "shape"),
        ("is_terminal", np.array(True), "'is_terminal' is true"),
        ("more", np.zeros(1), "'more' is not in the episode spec"),
    ],
)
def test_what_add_refuses_is_refused_and_what_came_before_it_is_taken(
    config: ReplayConfig, run: str, name: str, value: object, words: str
) -> None:
    writer = ReplayWriter(config, run, "s", SPEC)
    with pytest.raises(BadInput, match=words):
        writer.add_all(spoilt(name, value), source="x", policy_version=0)
    writer.close()
    (arrays,) = stored(config, run)
    np.testing.assert_array_equal(arrays["state"][:, 0], np.arange(5))


def test_a_field_that_is_missing_is_named(config: ReplayConfig, run: str) -> None:
    steps = episode(12, 0)
    del steps[5]["state"]
    writer = ReplayWriter(config, run, "s", SPEC)
    with pytest.raises(BadInput, match="'state' is missing"):
        writer.add_all(steps, source="x", policy_version=0)
    writer.close()
