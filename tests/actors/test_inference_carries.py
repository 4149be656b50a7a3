"""What is remembered by key is what each would remember alone, whoever acts with whom."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from remembering import Memory, RememberingAgent

from actors.inference.carries import Carries
from actors.inference.messages import Key
from learners.agent import Observation


def build() -> RememberingAgent:
    return RememberingAgent(torch.tensor(1.0), actions=2, pause_s=0.0)


def key(number: int) -> Key:
    return Key("runner0", "a", number)


def observe(sizes: list[int], steps: list[int]) -> Observation:
    count = np.repeat(steps, sizes)[:, None] * np.ones((1, 4), np.int64)
    rows = len(count)
    return Observation(
        fields={"count": count}, previous_action=np.full((rows, 2), 0.1, np.float32), is_first=np.zeros(rows, bool)
    )


@given(st.lists(st.integers(1, 2), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=100)
def test_everyone_remembers_in_any_company_what_it_would_alone(sizes: list[int], data: st.DataObject) -> None:
    """Requests of several keys each, acted together; some keys are dropped, some begin again."""
    agent = build()
    carries, alone, steps = Carries(agent), {}, dict.fromkeys(range(len(sizes)), 0)

    def begin(number: int) -> None:
        carries.begin(key(number), sizes[number], seed=number)
        alone[number], steps[number] = agent.start(sizes[number], number), 0

    for number in steps:
        begin(number)
    for _ in range(data.draw(st.integers(1, 8), label="decisions")):
        for number in data.draw(st.lists(st.sampled_from(sorted(alone)), max_size=1), label="begin again"):
            begin(number)
        who = data.draw(st.lists(st.sampled_from(sorted(alone)), min_size=1, unique=True), label="who")
        cut = data.draw(st.integers(0, len(who)), label="cut")
        segments = [tuple(map(key, part)) for part in (who[:cut], who[cut:]) if part]
        seen = observe([sizes[n] for n in who], [steps[n] for n in who])
        actions, carry = agent.act(seen, carries.take(segments))
        carries.put(segments, carry)
        for number, mine in zip(who, np.split(actions, np.cumsum([sizes[n] for n in who])[:-1]), strict=True):
            expected, alone[number] = agent.act(observe([sizes[number]], [steps[number]]), alone[number])
            np.testing.assert_array_equal(mine, expected)
            steps[number] += 1
        if len(alone) > 1 and data.draw(st.booleans(), label="drop"):
            carries.drop(key(who[0]))
            del alone[who[0]]
        assert sorted(carries) == [key(number) for number in sorted(alone)]
        assert carries.rows == sum(sizes[number] for number in alone)


def test_the_same_company_is_not_copied() -> None:
    agent = build()
    carries = Carries(agent)
    for number in range(3):
        carries.begin(key(number), 1, number)
    both = [(key(0), key(1)), (key(2),)]
    _, carry = agent.act(observe([1, 1, 1], [0, 0, 0]), carries.take(both))
    carries.put(both, carry)
    assert carries.take(both) is carry
    assert carries.take([(key(0), key(1), key(2))]) is carry  # the same rows, asked for as one
    other = carries.take([(key(2), key(0))])
    assert isinstance(other, Memory)
    assert other is not carry


def test_what_is_unused_is_known_and_what_is_dropped_is_gone() -> None:
    carries = Carries(build())
    carries.begin(key(0), 1, 0)
    carries.begin(key(1), 1, 0)
    between_s = time.monotonic()
    carries.put([(key(1),)], carries.take([(key(1),)]))
    assert carries.unused(between_s) == [key(0)]
    carries.drop(key(0))
    carries.drop(key(0))
    assert key(0) not in carries
    with pytest.raises(KeyError):
        carries.take([(key(0),)])
