"""The Dreamer 4 agent in company: joined batches act as their parts would have alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import squares
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.agent import Observation
from learners.dreamer4.acting import Dreamer4Agent
from learners.dreamer4.system import Dreamer4


@cache
def agent(levels: int, time_every: int) -> Dreamer4Agent:
    """With weights that tell frames apart; `time_every` 2 gives the encoder a memory too."""
    config = squares.config()
    code = config.tokenizer.net
    encoder = replace(code.encoder, time_every=time_every, context=4)
    config = replace(
        config,
        tokenizer=replace(config.tokenizer, net=replace(code, encoder=encoder)),
        agent=replace(config.agent, levels=levels),
    )
    torch.manual_seed(0)
    system = Dreamer4(config, squares.SPEC).eval()
    found = system.agent("bc")
    assert isinstance(found, Dreamer4Agent)
    torch.nn.init.normal_(found.policy.out.weight)
    return found


def observe(rng: np.random.Generator, is_first: np.ndarray) -> Observation:
    image = rng.integers(0, 256, (len(is_first), *squares.SPEC["image"].shape), np.uint8)
    action = rng.uniform(-1, 1, (len(is_first), 2)).astype(np.float32)
    return Observation(fields={"image": image}, previous_action=action, is_first=is_first)


def part(observation: Observation, rows: slice) -> Observation:
    fields = {name: array[rows] for name, array in observation.fields.items()}
    return Observation(
        fields=fields, previous_action=observation.previous_action[rows], is_first=observation.is_first[rows]
    )


@given(st.lists(st.integers(1, 3), min_size=2, max_size=3), st.sampled_from([(0, 0), (0, 2), (3, 2)]), st.data())
@settings(deadline=None, max_examples=25)
def test_acting_joined_equals_acting_alone(sizes: list[int], variant: tuple[int, int], data: st.DataObject) -> None:
    """Any company at each decision, so that the parts are at different positions, with restarts in the middle."""
    one, rng = agent(*variant), np.random.default_rng(0)
    alone = [one.start(size, seed) for seed, size in enumerate(sizes)]
    apart = [one.start(size, seed) for seed, size in enumerate(sizes)]
    for step in range(data.draw(st.integers(1, 14), label="steps")):
        who = data.draw(st.lists(st.sampled_from(range(len(sizes))), min_size=1, unique=True), label=f"company {step}")
        rows = [sizes[n] for n in who]
        first = data.draw(st.lists(st.booleans(), min_size=sum(rows), max_size=sum(rows)), label="restarts")
        seen = observe(rng, np.array(first))
        mode = data.draw(st.sampled_from(["sample", "mode"]), label="mode")
        found, joined = one.act(seen, one.join([apart[n] for n in who]), mode)
        ends = np.cumsum(rows)
        for n, size, end, carry in zip(who, rows, ends, one.split(joined, rows), strict=True):
            apart[n] = carry
            expected, alone[n] = one.act(part(seen, slice(end - size, end)), alone[n], mode)
            np.testing.assert_allclose(found[end - size : end], expected, atol=1e-5)


def test_what_started_together_is_not_parted() -> None:
    one = agent(0, 0)
    with pytest.raises(ValueError, match="do not split"):
        one.split(one.start(3, 0), [1, 2])
