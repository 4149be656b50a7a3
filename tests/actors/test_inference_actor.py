"""The inference actor in this process: who is computed together, and who is turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from remembering import RememberingConfig, weights

from actors.inference import InferenceConfig
from actors.inference.actor import InferenceActor
from actors.inference.messages import Health, Key, Part, Reply, Request
from actors.policies import PolicySpec
from learners.agent import Mode, Observation
from replay.schema import EpisodeSpec

SPEC = EpisodeSpec.build({"count": ((4,), "int64")}, action_dim=2)


def request(
    client: str, *, life: str = "a", size: int = 1, version: int = 1, fresh: bool = True, mode: Mode = "sample"
) -> Request:
    seen = Observation(
        fields={"count": np.zeros((size, 4), np.int64)},
        previous_action=np.zeros((size, 2), np.float32),
        is_first=np.full(size, fresh),
    )
    return Request(
        policy=PolicySpec(name="remembering", mode=mode),
        version=version,
        parts=(Part(Key(client, life, 0), size, 0, fresh),),
        observation=seen,
    )


def ask(rounds: Sequence[Sequence[Request]], **options: float) -> tuple[list[list[Reply]], Health]:
    """The requests of a round come at the same time, those of the next when all have been answered."""

    async def run() -> tuple[list[list[Reply]], Health]:
        actor = InferenceActor(InferenceConfig(**{"wait_s": 0.2, **options}), RememberingConfig(), SPEC)  # type: ignore[arg-type]
        for version in (1, 2):
            await actor.set_weights(weights(version))
        replies = [list(await asyncio.gather(*map(actor.act, requests))) for requests in rounds]
        return replies, await actor.health()

    return asyncio.run(run())


def test_who_asks_together_is_computed_together() -> None:
    """From the second decision on: at the first the actor does not know who else there is."""
    runners = [f"runner{n}" for n in range(3)]
    later = [[request(runner, fresh=False) for runner in runners]] * 4
    replies, health = ask([[request(runner) for runner in runners], *later])
    assert not any(reply.lacks for each in replies for reply in each)
    assert (health.decisions, health.remembered) == (15, 3)
    assert health.batches <= 3 + 4


@pytest.mark.parametrize(("batch", "batches"), [(256, 1), (4, 2), (2, 3), (1, 3)])
def test_a_batch_has_no_more_rows_than_it_may_but_a_request_is_whole(batch: int, batches: int) -> None:
    first = [[request(f"runner{n}", size=2)] for n in range(3)]
    _, before = ask(first, batch=batch)
    _, health = ask([*first, [request(f"runner{n}", size=2, fresh=False) for n in range(3)]], batch=batch)
    assert health.batches - before.batches == batches


def test_other_weights_and_other_modes_are_computed_apart() -> None:
    first = [[request("runner0")], [request("runner1", version=2)], [request("runner2")]]
    again = [
        request("runner0", fresh=False),
        request("runner1", version=2, fresh=False),
        request("runner2", fresh=False, mode="mode"),
    ]
    replies, health = ask([*first, again])
    assert health.batches == 3 + 3
    assert not any(reply.lacks for reply in replies[-1])


def test_what_is_not_known_is_said() -> None:
    replies, health = ask([[request("runner0", version=7)], [request("runner0", fresh=False)]])
    assert [reply.lacks for each in replies for reply in each] == ["weights", "past"]
    assert health.batches == 0


def test_who_begins_anew_while_a_request_waits_gets_an_answer_and_so_do_others() -> None:
    """The first agent of runner0 has asked twice, and waits for runner1, when the second agent comes."""
    lives = [request("runner0", life=life) for life in "aab"]
    replies, _ = ask([[request("runner1", size=9)], lives])
    assert [reply.lacks for reply in replies[-1]] == ["past", "past", ""]
    assert replies[-1][-1].actions is not None
