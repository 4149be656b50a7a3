"""How runs of DC-MPC are set up: the paper's loop, full precision, and what is checked before they start."""

from __future__ import annotations

import pytest

from distwm.config import load
from distwm.preflight import check_machine
from replay.errors import BadInput


@pytest.mark.parametrize("size", ["paper", "medium", "hard"])
def test_acting_and_learning_take_turns_as_in_the_paper(size: str) -> None:
    config = load("dcmpc", {"size": size})
    stage, world = config.stages["learn"], config.system.world
    online = stage.online
    assert (stage.policy, online.seed_policy, online.seed_episodes) == ("mppi", "random", 10)
    assert (online.warmup_updates, online.updates_per_step, online.overlap) == (5000, 1.0, False)
    assert (online.evaluate_every_steps, online.evaluate_episodes) == (12500, 10)
    assert (world.reward_low, world.reward_high, config.env.action_repeat) == (0, 2, 2)


@pytest.mark.parametrize("size", ["tiny", "cpu", "paper", "medium", "hard"])
def test_returns_are_learnt_in_full_precision(size: str) -> None:
    """Also on a GPU, where learners compute in bfloat16 else: a critic would know 100 from 100.5 at best."""
    assert load("dcmpc", {"size": size}).learner.precision == "float32"


def test_an_objective_that_there_is_not_is_named_before_the_run() -> None:
    with pytest.raises(BadInput, match=r"no objective 'wrong'"):
        check_machine(load("dcmpc", {"size": "tiny", "stages.learn.objective": "wrong"}))
