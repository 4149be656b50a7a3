"""PMPO and its parts against hand-worked numbers."""

from __future__ import annotations

import torch

from learners.dreamer4.imagination import pmpo_loss
from learners.maths import group_mean, lambda_returns, symexp, symlog, two_hot
from learners.nn.heads import BoundedNormal, Levels, ScalarHead


def test_lambda_returns_by_hand() -> None:
    """gamma 0.5, lambda 0.5, r = 1 2 3, v = 10 20 30 40. R_2 = 3 + .5 * 40 = 23;
    R_1 = 2 + .5 * (.5 * 30 + .5 * 23) = 15.25; R_0 = 1 + .5 * (.5 * 20 + .5 * 15.25) = 9.8125."""
    out = lambda_returns(torch.tensor([[1.0, 2, 3]]), torch.tensor([[10.0, 20, 30, 40]]), 0.5, 0.5)
    assert torch.allclose(out, torch.tensor([[9.8125, 15.25, 23.0]]))


def test_lambda_returns_at_its_ends() -> None:
    reward, value = torch.rand(2, 5), torch.rand(2, 6)
    one_step = reward + 0.9 * value[:, 1:]
    assert torch.allclose(lambda_returns(reward, value, 0.9, 0.0), one_step)
    full = lambda_returns(reward, value, 0.9, 1.0)[:, 0]
    powers = 0.9 ** torch.arange(5)
    assert torch.allclose(full, (reward * powers).sum(1) + 0.9**5 * value[:, -1])


def test_pmpo_takes_the_mean_of_each_group_and_only_the_sign() -> None:
    """One bad and three good: .5 * (-2) - .5 * mean(-1, -3, -5) + .3 * mean KL."""
    log_prob = torch.tensor([-2.0, -1, -3, -5])
    advantage = torch.tensor([-0.1, 100.0, 0.0, 0.01])
    kl = torch.tensor([1.0, 2, 3, 4])
    expected = 0.5 * -2 - 0.5 * -3 + 0.3 * 2.5
    assert torch.allclose(pmpo_loss(log_prob, advantage, kl, 0.5, 0.3), torch.tensor(expected))
    assert torch.equal(pmpo_loss(log_prob, advantage * 7, kl, 0.5, 0.3), pmpo_loss(log_prob, advantage, kl, 0.5, 0.3))


def test_an_empty_group_adds_nothing() -> None:
    assert group_mean(torch.ones(3), torch.zeros(3, dtype=torch.bool)) == 0
    assert torch.allclose(pmpo_loss(-torch.ones(3), torch.ones(3), torch.zeros(3), 0.5, 0.3), torch.tensor(0.5))


def test_kl_has_the_policy_first() -> None:
    """KL[pi || prior] for pi = (1/2, 1/2), prior = (1/4, 3/4): ln(2) / 2 + ln(2/3) / 2; not the other way round."""
    policy = Levels(torch.log(torch.tensor([[0.5, 0.5]])))
    prior = Levels(torch.log(torch.tensor([[0.25, 0.75]])))
    assert torch.allclose(
        policy.kl(prior),
        torch.tensor(0.5 * (2.0 + 0) * torch.log(torch.tensor(2.0)) - 0.5 * torch.log(torch.tensor(3.0))),
    )
    assert not torch.allclose(policy.kl(prior), prior.kl(policy))


def test_kl_pulls_only_once_the_policy_has_moved() -> None:
    prior = torch.tensor([[0.3, -0.2, 0.1]])
    logits = prior.clone().requires_grad_()
    Levels(logits).kl(Levels(prior)).sum().backward()
    assert logits.grad.abs().max() < 1e-6  # at the prior
    moved = (prior + torch.tensor([[0.5, 0.0, 0.0]])).requires_grad_()
    Levels(moved).kl(Levels(prior)).sum().backward()
    assert moved.grad[0, 0] > 0.01  # back down


def test_levels_round_trip_and_likelihood() -> None:
    head = Levels(torch.randn(4, 2, 5))
    action = head.sample(torch.Generator().manual_seed(0))
    assert torch.allclose(head.values[head.index(action)], action)
    every = torch.cartesian_prod(head.values, head.values)
    total = Levels(head.logits[:1].expand(25, -1, -1)).log_prob(every).exp().sum()
    assert torch.allclose(total, torch.tensor(1.0))
    assert torch.equal(head.mode(), head.values[head.logits.argmax(-1)])


def test_bounded_normal_stays_in_bounds_and_its_kl_is_zero_to_itself() -> None:
    head = BoundedNormal(3 * torch.randn(64, 2, 2))
    assert head.sample(torch.Generator().manual_seed(0)).abs().max() <= 1
    assert torch.allclose(head.kl(head), torch.zeros(64), atol=1e-6)


def test_two_hot_keeps_the_value_and_symexp_inverts_symlog() -> None:
    bins = torch.linspace(-3, 3, 13)
    x = torch.tensor([-3.0, -2.9, 0.0, 0.26, 3.0, 9.0])
    weights = two_hot(x, bins)
    assert torch.allclose(weights.sum(-1), torch.ones(6))
    assert ((weights > 0).sum(-1) <= 2).all()
    assert torch.allclose((weights * bins).sum(-1), x.clamp(-3, 3), atol=1e-6)
    assert torch.allclose(symexp(symlog(torch.tensor([-50.0, 0.0, 7.0]))), torch.tensor([-50.0, 0.0, 7.0]), atol=1e-4)


def test_a_scalar_head_learns_a_scalar() -> None:
    torch.manual_seed(0)
    head = ScalarHead(4, 41, 5.0)
    h, goal = torch.randn(8, 4), torch.linspace(-20, 60, 8)
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-2)
    for _ in range(300):
        loss = head.loss(head(h)[:, 0], goal).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (head.mean(head(h)[:, 0]) - goal).abs().max() < 1.5
