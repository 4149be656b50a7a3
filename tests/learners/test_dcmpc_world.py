"""The world model: sizes, codes as a classification against plain autograd, and what an untrained one knows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from distwm.config import load
from learners.dcmpc.classify import classify, expected
from learners.dcmpc.critics import Critics, CriticsConfig
from learners.dcmpc.encodings import make
from learners.dcmpc.losses import unroll, weights
from learners.dcmpc.system import DCMPC
from learners.dcmpc.world import World, WorldConfig
from learners.nn.fsq import FSQ
from replay.errors import BadInput
from replay.schema import EpisodeSpec

ENCODINGS = [("fsq", "ce"), ("fsq", "mse"), ("vq", "ce"), ("onehot", "ce"), ("continuous", "mse"), ("simnorm", "mse")]


def build(size: str, observations: int, actions: int, **overrides: object) -> DCMPC:
    config = load("dcmpc", {"size": size, **overrides}).system
    with torch.device("meta"):
        return config.build(EpisodeSpec.build({"state": ((observations,), "float32")}, actions))


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def trained(system: DCMPC) -> int:
    return count(system.world, system.critics, system.policy)


def test_the_papers_size_on_cartpole() -> None:
    """Targets, which are copies, do not count."""
    system = build("paper", 5, 1)
    assert count(system.world) == pytest.approx(5.8e6, rel=0.01)
    assert trained(system) == pytest.approx(10.5e6, rel=0.005)


@pytest.mark.parametrize(("latent_dim", "parameters"), [(32, 283_308), (64, 419_020)])
def test_as_many_parameters_as_the_released_agent(latent_dim: int, parameters: int) -> None:
    """Counted in both on walker's 24 observations and 6 actions."""
    assert trained(build("cpu", 24, 6, **{"world.latent_dim": latent_dim})) == parameters


def test_the_size_for_two_cores() -> None:
    assert trained(build("cpu", 5, 1)) == pytest.approx(276_000, rel=0.005)


@pytest.mark.parametrize(
    ("size", "latent_dim", "episodes"), [("paper", 512, 50), ("medium", 512, 150), ("hard", 1024, 500)]
)
def test_the_papers_settings(size: str, latent_dim: int, episodes: int) -> None:
    config = load("dcmpc", {"size": size}).system
    world, train, mppi = config.world, config.train, config.mppi
    assert (world.latent_dim, world.levels, world.encoder, world.hidden) == (latent_dim, (5, 3), (256,), (512, 512))
    assert (world.optim.lr, world.optim.weight_decay, world.optim.clip_norm) == (1e-4, 0.01, 20.0)
    for part in (config.critics, config.policy):
        assert (part.optim.lr, part.optim.weight_decay, part.optim.clip_norm, part.hidden) == (
            3e-4,
            0,
            20.0,
            (512, 512),
        )
        assert (part.optim.betas, part.optim.warmup_steps, part.optim.decay) == ((0.9, 0.999), 0, 0.0)
    assert (config.critics.members, config.critics.drawn) == (5, 2)
    assert (train.batch_size, train.horizon, train.rho, train.gamma, train.tau) == (512, 5, 0.9, 0.99, 0.005)
    assert (train.smoothing, train.smoothing_clip, train.policy_every, train.n_step) == (0.2, 0.3, 2, 1)
    assert (mppi.horizon, mppi.iterations, mppi.samples, mppi.policy_samples, mppi.elites) == (3, 6, 512, 24, 64)
    assert (mppi.temperature, mppi.std, mppi.std_least) == (0.5, 2.0, 0.05)
    assert (config.exploration.first, config.exploration.last, config.exploration.episodes) == (1.0, 0.1, episodes)
    assert not any((train.bootstrap_gamma_bug, train.nstep_done_bug, train.mask_done_bug))


def test_exploring_grows_less_with_every_episode() -> None:
    schedule = load("dcmpc", {"size": "paper"}).system.exploration
    assert [schedule.std(n) for n in (0, 49, 1000)] == pytest.approx([1.0, 0.1, 0.1])
    assert schedule.std(7) == pytest.approx(torch.linspace(1.0, 0.1, 50)[7].item())


def reference(logits: Tensor, target: Tensor, noise: Tensor | None, book: Tensor) -> tuple[Tensor, Tensor]:
    """The same as `classify`, by torch's own parts."""
    entropy = nn.functional.cross_entropy(logits, target, reduction="none").mean(1)
    if noise is None:
        return entropy, torch.einsum("bkd,kc->bcd", logits.softmax(1), book)
    soft = (logits - noise.log()).softmax(1)
    hard = nn.functional.one_hot(soft.argmax(1), len(book)).movedim(-1, 1)
    return entropy, torch.einsum("bkd,kc->bcd", hard - soft.detach() + soft, book)


@pytest.mark.parametrize("block", [1, 15 * 7 * 4, 2**18], ids=["rows alone", "four and two", "at once"])
@pytest.mark.parametrize("drawn", [True, False])
def test_classifying_is_cross_entropy_and_straight_through_gumbel_softmax(
    drawn: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learners.dcmpc.classify.BLOCK", block)
    g = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(6, 15, 7, generator=g)).requires_grad_()
    target = torch.randint(15, (6, 7), generator=g)
    noise = torch.empty(6, 15, 7).exponential_(generator=g) if drawn else None
    weights = torch.randn(6, generator=g), torch.randn(6, 2, 7, generator=g)
    found = []
    for function in (classify, reference):
        entropy, code = function(logits, target, noise, FSQ((5, 3)).codebook)
        loss = (entropy * weights[0]).sum() + (code * weights[1]).sum()
        found.append((entropy, code, *torch.autograd.grad(loss, logits)))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_each_output_of_classifying_has_a_gradient_of_its_own() -> None:
    logits = torch.randn(2, 15, 3, requires_grad=True)
    target, book = torch.zeros(2, 3, dtype=torch.long), FSQ((5, 3)).codebook
    whole = torch.zeros_like(logits)
    for output in (0, 1):
        (part,) = torch.autograd.grad(classify(logits, target, None, book)[output].sum(), logits)
        whole += part
    both = sum(x.sum() for x in classify(logits, target, None, book))
    torch.testing.assert_close(torch.autograd.grad(both, logits)[0], whole)


def test_drawn_codes_come_with_their_probabilities() -> None:
    """Over many draws their mean is the expected code."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 15, 3, generator=g)
    book = FSQ((5, 3)).codebook
    noise = torch.empty(20_000, 15, 3).exponential_(generator=g)
    _, code = classify(logits.expand(20_000, -1, -1), torch.zeros(20_000, 3, dtype=torch.long), noise, book)
    assert set(code[:, 1].unique().tolist()) == {-1.0, 0.0, 1.0}
    torch.testing.assert_close(code.mean(0), expected(logits, book)[0], rtol=0, atol=0.02)


def test_an_untrained_model_guesses() -> None:
    """Cross-entropy near ln 15 at every horizon, at the paper's size."""
    torch.manual_seed(0)
    world = World(WorldConfig(), 5, 1)
    with torch.no_grad():
        goal = world.quantise(torch.randn(5, 32, 5))
        found = unroll(world, world.encode(torch.randn(32, 5)), torch.rand(5, 32, 1) * 2 - 1, goal, None)
    assert world.chance == pytest.approx(math.log(15))
    assert found.error.mean(1).tolist() == pytest.approx([math.log(15)] * 5, abs=0.12)


def test_weights_of_transitions_by_hand() -> None:
    """The loss is (1/H) sum_t rho^t times the mean over rows, of which some are left out."""
    x = torch.tensor([[1.0, 3.0], [2.0, 4.0], [10.0, 20.0]])
    kept = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    expected_loss = (1 * (1 + 3) / 2 + 0.9 * 2 / 2 + 0.81 * 20 / 2) / 3
    assert float((weights(kept, 0.9) * x).mean()) == pytest.approx(expected_loss)


def test_rewards_keep_to_their_range() -> None:
    world = World(WorldConfig(latent_dim=4, encoder=(8,), hidden=(8,), reward_low=-1.0, reward_high=3.0), 3, 2)
    nn.init.constant_(world.rewards[-1].bias, 50.0)
    z = world.encode(torch.randn(9, 3))
    torch.testing.assert_close(world.reward(z, torch.zeros(9, 2)), torch.full((9,), 3.0))
    nn.init.constant_(world.rewards[-1].bias, -50.0)
    torch.testing.assert_close(world.step(z, torch.zeros(9, 2))[1], torch.full((9,), -1.0))
    free = World(WorldConfig(latent_dim=4, encoder=(8,), hidden=(8,)), 3, 2)
    nn.init.constant_(free.rewards[-1].bias, 50.0)
    assert free.reward(free.encode(torch.randn(1, 3)), torch.zeros(1, 2)).item() > 40


def test_the_smallest_of_the_drawn_critics() -> None:
    critics = Critics(CriticsConfig(hidden=(8,)), 4, 2)
    z, a = torch.randn(6, 4), torch.randn(6, 2)
    values = critics(z, a)
    assert values.shape == (5, 6)
    draws = [critics.draw(torch.Generator().manual_seed(n)).tolist() for n in range(50)]
    assert all(len(set(chosen)) == 2 for chosen in draws)
    assert {n for chosen in draws for n in chosen} == set(range(5))
    torch.testing.assert_close(critics.lowest(z, a, torch.tensor([4, 1])), torch.minimum(values[4], values[1]))
    torch.testing.assert_close(critics.mean(z, a, torch.tensor([4, 1])), (values[4] + values[1]) / 2)


@pytest.mark.parametrize(("encoding", "dynamics"), ENCODINGS)
def test_every_encoding_has_its_shapes_and_a_gradient(encoding: str, dynamics: str) -> None:
    torch.manual_seed(0)
    sizes = {"latent_dim": 8, "encoder": (16,), "hidden": (16,)}
    world = World(WorldConfig(encoding=encoding, dynamics=dynamics, **sizes), 3, 2)  # type: ignore[arg-type]
    z = world.encode(torch.randn(5, 7, 3))
    assert z.shape == (5, 7, 8 * (15 if encoding == "onehot" else 2))
    following, reward = world.step(z, torch.zeros(5, 7, 2))
    assert following.shape == z.shape
    assert reward.shape == (5, 7)
    following.square().sum().backward()
    assert all(p.grad is not None for p in world.encoder.parameters())


def test_learnt_codes_are_the_nearest_ones() -> None:
    vector = make("vq", (5, 3))
    x = torch.randn(4, 2, 8)
    found = vector(x)
    distance = (x[:, None] - vector.book()[None, :, :, None]).square().sum(2)
    assert torch.equal(found.indices, distance.argmin(1))
    torch.testing.assert_close(found.code, nn.functional.embedding(found.indices, vector.book()).movedim(-1, -2))


def test_groups_of_a_simplex_sum_to_one() -> None:
    found = make("simnorm", (5, 3))(torch.randn(4, 2, 8)).code
    torch.testing.assert_close(found.flatten(1).view(4, 2, 8).sum(-1), torch.ones(4, 2))


@pytest.mark.parametrize(
    "wrong", [{"encoding": "continuous"}, {"latent_dim": 0}, {"levels": (1,)}, {"reward_low": 1.0}]
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        WorldConfig(**wrong)  # type: ignore[arg-type]
