"""MPPI on problems whose best plan is known, and DC-MPC's agents."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from learners.agent import Observation
from learners.dcmpc import mppi, planner
from learners.dcmpc.critics import Critics, CriticsConfig
from learners.dcmpc.mppi import MPPIConfig, Noise, noise, plan
from learners.dcmpc.planner import Carry, Follower, Imagined, Planner, mish_of_negative
from learners.dcmpc.policy import Policy, PolicyConfig
from learners.dcmpc.world import World, WorldConfig
from learners.draws import Draws
from replay.errors import BadInput

SMALL = MPPIConfig(horizon=3, iterations=3, samples=64, policy_samples=8, elites=16, std_least=0.01)


class Quadratic:
    """The state adds up the actions (Z = A); a reward is minus the squared distance to a goal, a value minus the square
    of the distance to another, times the number of the critic."""

    def __init__(self, goal: float = 0.5, last: float = 0.0, policy: float = -1.0) -> None:
        self.goal, self.last, self.policy = goal, last, policy

    def step(self, z: Tensor, a: Tensor) -> Tensor:
        return z + a

    def reward(self, z: Tensor, a: Tensor) -> Tensor:
        return -(z + a - self.goal).square().sum(-1)

    def act(self, z: Tensor) -> Tensor:
        return torch.full_like(z, self.policy)

    def value(self, z: Tensor, a: Tensor, critics: Tensor) -> Tensor:
        return -self.last * (z + a).square().sum(-1) * critics.float().mean(1)[:, None]


def drawn(config: MPPIConfig, rows: int, actions: int = 2, seed: int = 0) -> Noise:
    return noise(config, Draws.start(rows, seed), actions, critics=5, of_each=2)


def planned(config: MPPIConfig, model: mppi.Model, z: Tensor, seed: int = 0) -> mppi.Plan:
    mean = torch.zeros(config.horizon, *z.shape)
    return plan(config, model, z, mean, drawn(config, len(z), z.shape[1], seed), spread=0.1)


def test_finds_the_best_plan_of_a_quadratic_reward() -> None:
    z = torch.tensor([[0.0, 0.3], [-0.2, 0.5]])
    config = replace(SMALL, iterations=12, samples=256, elites=32, temperature=1.0)
    found = planned(config, Quadratic(goal=0.5), z)
    assert torch.allclose(found.mean_HBA[0], 0.5 - z, atol=0.05)  # to the goal at once, and no further
    assert found.mean_HBA[1:].abs().max() < 0.1
    assert torch.allclose(found.action_BA, 0.5 - z, atol=0.1)
    assert planned(replace(config, action="mean"), Quadratic(goal=0.5), z).action_BA.equal(found.mean_HBA[0])


def test_looks_to_the_value_at_the_end_of_the_plan() -> None:
    z = torch.full((1, 1), 0.6)
    config = replace(SMALL, horizon=1, iterations=12, samples=256, bootstrap_noise=False)
    # One decision u, then the policy's p: minimise (z + u - g)^2 + d c (z + u + p)^2, c the mean of the critics drawn.
    model = Quadratic(goal=0.0, last=3.0, policy=0.4)
    given = drawn(config, 1, 1)._replace(critics_IBM=torch.full((config.iterations, 1, 2), 2))
    found = plan(config, model, z, torch.zeros(1, 1, 1), given, spread=0.1)
    c = config.discount * 3.0 * 2
    assert found.mean_HBA.item() == pytest.approx(-0.6 - 0.4 * c / (1 + c), abs=0.03)


def test_starts_from_the_policy_where_that_is_good() -> None:
    goal = Quadratic(goal=-3.0, policy=-1.0)  # full speed for three steps
    found = planned(replace(SMALL, iterations=1, elites=1, std=0.05), goal, torch.zeros(1, 2))
    assert torch.allclose(found.action_BA, torch.full((1, 2), -1.0), atol=0.3)  # 20 deviations from what was drawn
    alone = planned(replace(SMALL, iterations=1, elites=1, std=0.05, policy_samples=0), goal, torch.zeros(1, 2))
    assert alone.action_BA.min() > -0.3


def test_by_hand() -> None:
    """Two sequences of one step; weights 1 / (1 + e^(-t)) of values 1 apart."""
    config = MPPIConfig(horizon=1, iterations=1, samples=3, policy_samples=0, elites=2, temperature=0.5, std=2.0)
    actions = torch.tensor([0.2, -0.4, 0.9]).view(1, 1, 3, 1)
    found, weights = mppi.elite(config, torch.tensor([[1.0, 0.0, -5.0]]), actions)
    share = 1 / (1 + np.exp(-0.5))
    assert found.flatten().tolist() == pytest.approx([0.2, -0.4])
    assert weights.flatten().tolist() == pytest.approx([share, 1 - share])
    mean, std = mppi.moments(config, found, weights)
    assert mean.item() == pytest.approx(0.2 * share - 0.4 * (1 - share))
    assert std.item() == pytest.approx(0.6 * np.sqrt(share * (1 - share)))
    assert mppi.pick(found[0], weights, torch.tensor([share - 1e-3])).item() == pytest.approx(0.2)
    assert mppi.pick(found[0], weights, torch.tensor([share + 1e-3])).item() == pytest.approx(-0.4)
    assert mppi.discounted(torch.tensor([[1.0], [2.0], [4.0]]), 0.5).item() == 3.0


def test_elites_are_the_best_and_their_weights_sum_to_one() -> None:
    values = torch.randn(3, SMALL.samples, generator=torch.Generator().manual_seed(0)) * 30
    values[1, :5] = torch.nan  # counts as 0
    actions = torch.arange(SMALL.samples).float().expand(2, 3, -1)[..., None]  # each sequence knows its number
    found, weights = mppi.elite(SMALL, values, actions)
    assert torch.allclose(weights.sum(1), torch.ones(3))
    kept = values.nan_to_num(0.0)
    best = kept.sort(descending=True).values[:, : SMALL.elites]
    assert kept.gather(1, found[0, ..., 0].long()).equal(best)
    assert torch.allclose(weights[:, 1:] / weights[:, :1], (0.5 * (best[:, 1:] - best[:, :1])).exp(), atol=1e-6)


def test_deviation_is_clamped() -> None:
    weights = torch.full((1, 2), 0.5)
    for wide, expected in ((0.0, SMALL.std_least), (0.5, 0.5), (7.0, SMALL.std)):
        mean, std = mppi.moments(SMALL, torch.tensor([-wide, wide]).view(1, 1, 2, 1), weights)
        assert mean.item() == 0.0
        assert std.item() == pytest.approx(expected)


def test_next_plan_starts_where_the_last_one_goes_on() -> None:
    mean = torch.arange(12.0).view(3, 2, 2)
    found = mppi.shifted(mean, torch.tensor([False, True]))
    assert found[:, 0].tolist() == [[4.0, 5.0], [8.0, 9.0], [0.0, 0.0]]
    assert not found[:, 1].any()


def test_a_better_start_gives_a_better_plan() -> None:
    z, model = torch.zeros(1, 2), Quadratic(goal=2.5)  # at full speed for three steps
    config = replace(SMALL, iterations=1, std=0.2, policy_samples=0)
    cold, warm = (
        plan(config, model, z, torch.full((3, 1, 2), start), drawn(config, 1), spread=0.1) for start in (0.0, 0.8)
    )
    assert warm.mean_HBA.mean() > cold.mean_HBA.mean() + 0.4


def test_draws_critics_without_repetition() -> None:
    chosen = drawn(replace(SMALL, iterations=50), rows=4).critics_IBM
    assert chosen.shape == (50, 4, 2)
    assert (chosen[..., 0] != chosen[..., 1]).all()
    assert chosen.unique().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"horizon": 0}, "horizon"),
        ({"elites": 65}, "elites"),
        ({"policy_samples": 64}, "policy_samples"),
        ({"std_least": 3.0}, "deviation"),
    ],
)
def test_wrong_settings(wrong: dict[str, int], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        replace(SMALL, **wrong)


def networks(dynamics: str = "ce") -> tuple[World, Policy, Critics]:
    torch.manual_seed(0)
    config = WorldConfig(latent_dim=8, encoder=(16,), hidden=(16, 16), reward_high=2.0, dynamics=dynamics)
    world = World(config, 5, 2)
    return world, Policy(PolicyConfig(hidden=(16, 16)), world.width, 2), Critics(CriticsConfig(hidden=(16, 16)), 16, 2)


@pytest.mark.parametrize("dynamics", ["ce", "mse"])
@torch.no_grad()
def test_imagines_what_the_networks_say(dynamics: str) -> None:
    world, policy, critics = networks(dynamics)
    for part in (world, policy, critics):  # norms that do something
        for p in part.parameters():
            p.add_(0.1 * torch.randn_like(p))
    imagined = Imagined(world, policy, critics)
    z, a = world.encode(torch.randn(6, 5)), torch.rand(6, 2) * 2 - 1
    after, reward = world.step(z, a)
    assert torch.allclose(imagined.step(z, a), after, atol=1e-5)
    assert torch.allclose(imagined.reward(z, a), reward, atol=1e-5)
    assert torch.allclose(imagined.act(z), policy(z), atol=1e-5)
    chosen = torch.tensor([[0, 3], [4, 1]])
    value = imagined.value(z.view(2, 3, -1), a.view(2, 3, -1), chosen)
    for row, pair in enumerate(chosen):
        part = slice(3 * row, 3 * row + 3)
        assert torch.allclose(value[row], critics.mean(z[part], a[part], pair), atol=1e-5)


def test_products_of_wide_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not torch's choice, and the same."""
    x, weight, bias = torch.randn(64, 256), torch.randn(128, 256), torch.randn(128)
    expected = F.linear(x, weight, bias)
    monkeypatch.setattr(planner, "WIDE", True)
    monkeypatch.setattr(planner, "LARGE", 64 * 128 * 256)
    monkeypatch.setattr(F, "linear", lambda *_: pytest.fail("it took torch's choice"))
    torch.testing.assert_close(planner.linear(x, weight, bias), expected, rtol=1e-4, atol=1e-4)


def test_mish() -> None:
    x = torch.cat((torch.linspace(-30, 30, 601), torch.tensor([-200.0, 200.0])))
    assert torch.allclose(mish_of_negative(-x), F.mish(x), atol=1e-5, rtol=1e-5)


def shown(rows: int, first: bool, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    state = rng.standard_normal((rows, 5)).astype(np.float32)
    return Observation(
        fields={"state": state}, previous_action=np.zeros((rows, 2), np.float32), is_first=np.full(rows, first)
    )


def row(observation: Observation, place: int) -> Observation:
    part = slice(place, place + 1)
    return Observation(
        fields={name: value[part] for name, value in observation.fields.items()},
        previous_action=observation.previous_action[part],
        is_first=observation.is_first[part],
    )


@pytest.mark.parametrize("agent_name", ["mppi", "policy"])
def test_joined_rows_act_as_alone(agent_name: str) -> None:
    world, policy, critics = networks()
    agent = Follower(world, policy, "state", 0.3)
    if agent_name == "mppi":
        agent = Planner(SMALL, world, policy, critics, "state", 0.3)  # type: ignore[assignment]
    alone = [agent.start(1, seed) for seed in (7, 8, 9)]
    joined = agent.join([agent.start(1, seed) for seed in (7, 8, 9)])
    for t in range(4):
        seen = shown(3, first=t == 0, seed=t)
        together, joined = agent.act(seen, joined, "sample")
        assert together.shape == (3, 2)
        assert together.dtype == np.float32
        assert np.abs(together).max() <= 1
        for place in range(3):
            action, alone[place] = agent.act(row(seen, place), alone[place], "sample")
            np.testing.assert_allclose(action[0], together[place], atol=1e-5)
    for place, part in enumerate(agent.split(joined, [1, 1, 1])):  # parted again, they go on as they would have
        action, _ = agent.act(row(shown(3, False, 9), place), part, "sample")
        expected, _ = agent.act(row(shown(3, False, 9), place), alone[place], "sample")
        np.testing.assert_allclose(action, expected, atol=1e-5)


def test_planner_forgets_at_the_start_of_an_episode() -> None:
    planner = Planner(SMALL, *networks(), "state", 0.3)
    fresh, used = planner.start(2, 0), planner.start(2, 0)
    used = Carry(torch.full_like(used.mean_HBA, 0.7), used.draws)
    ours, _ = planner.act(shown(2, True), fresh, "sample")
    theirs, _ = planner.act(shown(2, True), used, "sample")
    np.testing.assert_array_equal(ours, theirs)
    other, _ = planner.act(shown(2, False), Carry(torch.full((3, 2, 2), 0.7), Draws.start(2, 0)), "sample")
    assert (other != ours).any()


def test_noise_of_exploration_is_for_samples_only() -> None:
    world, policy, critics = networks()
    seen = shown(64, True)
    config = replace(SMALL, samples=16, elites=4, iterations=1)
    planner = Planner(config, world, policy, critics, "state", 0.05)
    quiet, _ = planner.act(seen, planner.start(64, 0), "mode")
    loud, _ = planner.act(seen, planner.start(64, 0), "sample")
    inside = np.abs(loud) < 1
    assert (loud - quiet)[inside].std() == pytest.approx(0.05, rel=0.3)
    follower = Follower(world, policy, "state", 0.05)
    action, _ = follower.act(seen, follower.start(64, 0), "mode")
    np.testing.assert_allclose(action, policy(world.encode(torch.from_numpy(seen.fields["state"]))).detach().numpy())


@pytest.mark.slow  # the compiler takes seconds to trace
def test_plans_compile_as_one_graph() -> None:
    """Nothing in a plan looks at a tensor's numbers."""
    world, policy, critics = networks()
    imagined, z = Imagined(world, policy, critics), torch.zeros(2, world.width)
    given = drawn(SMALL, 2)
    mean = torch.zeros(3, 2, 2)
    compiled = torch.compile(plan, fullgraph=True, backend="eager")
    with torch.no_grad():
        found, expected = (f(SMALL, imagined, z, mean, given, 0.1) for f in (compiled, plan))
    assert torch.allclose(found.action_BA, expected.action_BA, atol=1e-5)
