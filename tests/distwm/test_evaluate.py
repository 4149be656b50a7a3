"""Policies played by a real fleet from the same starts, and the table that comes of it."""

from collections.abc import Iterator

import numpy as np
import pytest
import ray

from actors.envs.registry import EnvConfig
from actors.fleet import Fleet, FleetConfig, Member
from actors.runner import RunnerConfig
from distwm.evaluate import EvaluateConfig, evaluate, policy_spec
from distwm.returns import by_policy, differences, returns_table


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    env = EnvConfig(task="dmc/point_mass_easy", image_size=32, render_size=32, action_repeat=8, time_limit_s=0.8)
    fleet = Fleet(
        FleetConfig(),
        [Member(env=env, run="evaluate")],
        runner=RunnerConfig(envs_per_runner=2),
        replay=None,
        system=None,
        seed=0,
    )
    yield fleet
    fleet.close()
    ray.shutdown()


def test_policies_meet_the_same_start_states(fleet: Fleet) -> None:
    config = EvaluateConfig(episodes=3, policies=("random", "behaviour", "expert:mode"), seed=5, videos=1)
    results = evaluate(fleet, config, None)
    assert [(r.policy, r.seed) for r in results] == [
        (policy, seed) for policy in ("random", "behaviour", "expert") for seed in (5, 6, 7)
    ]
    assert {r.mode for r in results if r.policy == "expert"} == {"mode"}
    filmed = {r.policy: r.frames for r in results if r.frames is not None}
    assert [r.seed for r in results if r.frames is not None] == [5, 5, 5]
    starts = [frames[0] for frames in filmed.values()]
    assert all((start == starts[0]).all() for start in starts)
    assert any((frames[-1] != starts[0]).any() for frames in filmed.values())


def test_policy_spec() -> None:
    assert (policy_spec("bc").name, policy_spec("bc").mode) == ("bc", "sample")
    assert policy_spec("bc:mode").mode == "mode"
    with pytest.raises(ValueError, match="bc:argmax"):
        policy_spec("bc:argmax")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"episodes": 0}, "episodes"),
        ({"videos": -1}, "videos"),
        ({"policies": ("bc", "bc")}, "only once"),
        ({"policies": ("bc:argmax",)}, "bc:argmax"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        EvaluateConfig(**wrong)


def rows(policy: str, mode: str, returns: list[float], number: int = 0) -> list[dict]:
    pairs = enumerate(returns)
    return [{"round": number, "policy": policy, "mode": mode, "seed": s, "total_reward": r} for s, r in pairs]


def test_table_pairs_by_start_state_within_a_readout() -> None:
    ours, theirs = rows("policy", "sample", [2, 3, 4]), rows("bc", "sample", [1, 2, 3])
    modes = rows("policy", "mode", [5, 5, 5]) + rows("bc", "mode", [0, 0, 0])
    played = by_policy([*theirs, *reversed(ours), *modes])
    table = {(row.policy, row.mode): row for row in returns_table(played, ("bc", "sample"))}
    assert [*table] == [("bc", "sample"), ("policy", "sample"), ("policy", "mode"), ("bc", "mode")]
    assert table["bc", "sample"].gain is None
    gain, mode_gain = table["policy", "sample"].gain, table["policy", "mode"].gain
    assert gain is not None
    assert mode_gain is not None
    assert (gain.mean, gain.low, gain.high) == (1, 1, 1)  # each start by itself: no spread is left
    assert mode_gain.mean == 5


def test_the_last_round_counts() -> None:
    played = by_policy([*rows("bc", "sample", [1], 0), *rows("bc", "sample", [9], 1)])
    assert played["bc", "sample"] == {0: 9.0}


def test_only_starts_that_both_met_are_paired() -> None:
    played = by_policy([*rows("policy", "sample", [5, 6]), *rows("bc", "sample", [1, 1, 1])])
    np.testing.assert_array_equal(differences(played, ("policy", "sample"), ("bc", "sample")), [4, 5])
    assert not len(differences(played, ("policy", "sample"), ("control", "sample")))
