from __future__ import annotations

import numpy as np
import pytest

from actors.behaviour import AHEAD, Behaviour, BehaviourConfig, OrnsteinUhlenbeck, Random, snap, uniform
from actors.envs.registry import EnvConfig, episode_spec, make
from actors.experts import expert
from actors.policies import PolicySpec, build
from actors.rollout import rollout
from learners.agent import Observation
from replay.errors import BadInput


@pytest.mark.parametrize(
    ("task", "repeat", "least"),
    [
        ("dmc/cartpole_balance", 4, 990),
        ("dmc/cartpole_balance", 8, 990),
        ("dmc/cartpole_swingup", 4, 820),
        ("dmc/cartpole_swingup", 8, 820),
        ("dmc/reacher_easy", 4, 900),
        ("dmc/reacher_easy", 8, 900),
        ("dmc/reacher_hard", 8, 900),
        ("dmc/point_mass_easy", 8, 800),
        ("dmc/pendulum_swingup", 4, 550),
    ],
)
def test_experts_solve_their_tasks(task: str, repeat: int, least: float) -> None:
    """Of 1000. Expectations are a little below what eight other seeds gave."""
    config = EnvConfig(task=task, action_repeat=repeat, pixels=False)
    agent = build(PolicySpec(name="expert"), config, episode_spec(config), BehaviourConfig(), system=None)
    outcomes = rollout([make(config, n) for n in range(3)], agent, seeds=[11, 12, 13], agent_seed=0)
    assert min(outcome.total_reward for outcome in outcomes) > least


def test_experts_are_pure_functions_of_any_batch_shape() -> None:
    state = np.random.default_rng(0).standard_normal((3, 4, 6))
    act = expert("dmc/reacher_easy")
    np.testing.assert_array_equal(act(state)[1, 2], act(state[1, 2]))


def test_an_absent_expert_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="dmc/cartpole_swingup"):
        expert("dmc/cartpole_swing")


def observe(batch: int, is_first: bool, width: int = 1) -> Observation:
    first = np.full(batch, is_first)
    return Observation(fields={"state": np.zeros((batch, 5))}, previous_action=np.zeros((batch, width)), is_first=first)


def act(agent: Behaviour | Random | OrnsteinUhlenbeck, decisions: int, batch: int = 64, seed: int = 0) -> np.ndarray:
    """(decisions, batch, A), the first decision being the first of an episode."""
    carry = agent.start(batch, seed)
    found = []
    for step in range(decisions):
        action, carry = agent.act(observe(batch, is_first=step == 0), carry)
        found.append(action)
    return np.stack(found)


def two(state: np.ndarray) -> np.ndarray:
    """An expert whose actions no random draw can be."""
    return np.full((*state.shape[:-1], 1), 2.0)


def test_the_mixture_has_the_asked_shares_and_lengths() -> None:
    config = BehaviourConfig(epsilon=(0.2, 0.6), hold=5.0)
    actions = act(Behaviour(config, two, 1), decisions=400, batch=200)[..., 0]
    noisy = actions != 2.0
    shares = noisy.mean(0)
    assert shares.mean() == pytest.approx(0.4, abs=0.03)
    assert shares.std() > 0.08  # each episode has a share of its own
    assert shares.min() < 0.3
    assert shares.max() > 0.5
    changes = (np.diff(actions, axis=0) != 0) & noisy[1:] & noisy[:-1]
    assert changes.sum() / (noisy[1:] & noisy[:-1]).sum() < 1 / 5  # random actions are held


def test_epsilon_is_drawn_anew_for_each_episode() -> None:
    agent = Behaviour(BehaviourConfig(epsilon=(0.0, 1.0)), two, 1)
    carry = agent.start(4, seed=0)
    agent.act(observe(4, is_first=True), carry)
    before = carry.epsilon.copy()
    agent.act(observe(4, is_first=False), carry)
    np.testing.assert_array_equal(before, carry.epsilon)
    first = Observation(
        fields={"state": np.zeros((4, 5))}, previous_action=np.zeros((4, 1)), is_first=np.array([1, 0, 0, 1], bool)
    )
    agent.act(first, carry)
    np.testing.assert_array_equal(before != carry.epsilon, first.is_first)


def test_the_mode_of_the_mixture_is_the_expert() -> None:
    agent = Behaviour(BehaviourConfig(epsilon=(1.0, 1.0)), two, 1)
    action, _ = agent.act(observe(4, is_first=True), agent.start(4, 0), mode="mode")
    np.testing.assert_array_equal(action, np.full((4, 1), 2.0))


def test_levels_bound_every_action() -> None:
    levels = (-1.0, 0.0, 0.5)
    config = BehaviourConfig(epsilon=(0.5, 0.5), levels=levels)
    assert set(np.unique(act(Behaviour(config, two, 3), 50))) == set(levels)
    assert set(np.unique(act(Random(3, levels), 50))) == set(levels)
    np.testing.assert_array_equal(snap(np.array([-3.0, 0.2, 0.3]), levels), [-1.0, 0.0, 0.5])


@pytest.mark.parametrize("agent", [Random(2), OrnsteinUhlenbeck(2), Behaviour(BehaviourConfig(), two, 2)])
def test_noise_is_fixed_by_the_seed_and_not_by_the_neighbours(agent: Random) -> None:
    np.testing.assert_array_equal(act(agent, 10, batch=2, seed=5), act(agent, 10, batch=6, seed=5)[:, :2])
    assert not np.array_equal(act(agent, 10, batch=2, seed=5), act(agent, 10, batch=2, seed=6))


def test_ornstein_uhlenbeck_is_correlated_and_starts_near_zero() -> None:
    noise = act(OrnsteinUhlenbeck(1), 200, batch=200)[..., 0]
    assert abs(noise).max() <= 1
    assert noise[0].std() < 0.6 * noise[100:].std()
    assert np.corrcoef(noise[100:-1].ravel(), noise[101:].ravel())[0, 1] == pytest.approx(0.85, abs=0.05)


@pytest.mark.parametrize(
    "agent",
    [
        Random(2, levels=(-1.0, 0.0, 1.0)),
        OrnsteinUhlenbeck(2),
        Behaviour(BehaviourConfig(hold=2.0), expert("dmc/point_mass_easy"), action_dim=2),
    ],
)
def test_rows_act_in_any_company_as_they_would_alone(agent: Random | OrnsteinUhlenbeck | Behaviour) -> None:
    """Joined, acted, split along other lines than those of the join, and again."""
    sizes, rng = [2, 1, 3], np.random.default_rng(0)
    alone, parts = ([agent.start(size, seed) for seed, size in enumerate(sizes)] for _ in range(2))
    for step in range(30):
        first = (rng.random(6) < 0.2) | (step == 0)
        state = rng.standard_normal((6, 4))
        seen = Observation(fields={"state": state}, previous_action=np.zeros((6, 2)), is_first=first)
        found, carry = agent.act(seen, agent.join(parts))
        parts = agent.split(carry, [[2, 1, 3], [6], [1, 1, 4]][step % 3])
        for n, rows in enumerate((slice(0, 2), slice(2, 3), slice(3, 6))):
            fields, before = {"state": state[rows]}, np.zeros((len(first[rows]), 2))
            mine = Observation(fields=fields, previous_action=before, is_first=first[rows])
            expected, alone[n] = agent.act(mine, alone[n])
            np.testing.assert_array_equal(found[rows], expected)


@pytest.mark.parametrize("levels", [(), (-1.0, 1.0), (-1.0, 0.0, 1.0)])
@pytest.mark.parametrize("width", [1, 3])
def test_random_actions_drawn_ahead_are_those_drawn_one_by_one(levels: tuple[float, ...], width: int) -> None:
    """So an episode is the one that its seed always gave."""
    rngs = [np.random.default_rng(seed) for seed in np.random.SeedSequence(5).spawn(2)]
    expected = [[uniform(rng, width, levels).astype(np.float32) for rng in rngs] for _ in range(3 * AHEAD + 1)]
    np.testing.assert_array_equal(act(Random(width, levels), 3 * AHEAD + 1, batch=2, seed=5), expected)
