"""Layers of small networks: Mish against torch's, ensembles against their members one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learners.nn.mish import mish
from learners.nn.mlp import Ensemble, mlp


def test_mish_is_torchs() -> None:
    x = torch.cat((torch.linspace(-60, 60, 1001), torch.randn(1000)))
    torch.testing.assert_close(mish(x), F.mish(x), rtol=2e-6, atol=2e-6)


def test_mishs_gradient() -> None:
    x = torch.cat((torch.linspace(-60, 60, 101), torch.randn(100))).double().requires_grad_()
    (found,) = torch.autograd.grad(mish(x).square().sum(), x)
    (expected,) = torch.autograd.grad(F.mish(x).square().sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(mish, x[:101:10].detach().requires_grad_())


def test_layers_are_linear_norm_mish() -> None:
    net = mlp(3, (8, 5), 2)
    assert [type(m).__name__ for m in net] == ["NormedLinear", "NormedLinear", "Linear"]
    x = torch.randn(7, 3)
    h = x
    for layer in net[:2]:
        h = F.mish(F.layer_norm(F.linear(h, layer.weight, layer.bias), layer.weight.shape[:1]))
    torch.testing.assert_close(net(x), net[2](h), rtol=1e-5, atol=1e-5)


def member(ensemble: Ensemble, number: int) -> nn.Sequential:
    """One of them as a network of its own."""
    first = ensemble.layers[0]
    hidden = [layer.weight.shape[2] for layer in list(ensemble.layers)[:-1]]
    net = mlp(first.weight.shape[1], hidden, ensemble.layers[-1].weight.shape[2])
    with torch.no_grad():
        for layer, own in zip(ensemble.layers, net, strict=True):
            own.weight.copy_(layer.weight[number].T)
            own.bias.copy_(layer.bias[number, 0])
            if layer.normed:
                own.norm.weight.copy_(layer.gain[number, 0])
                own.norm.bias.copy_(layer.shift[number, 0])
    return net


@pytest.fixture
def ensemble() -> Ensemble:
    torch.manual_seed(0)
    found = Ensemble(5, 4, (8, 6), 1)
    for layer in found.layers:
        if layer.normed:
            nn.init.normal_(layer.gain)
            nn.init.normal_(layer.shift)
    return found


def test_an_ensemble_is_its_members(ensemble: Ensemble) -> None:
    x = torch.randn(9, 4)
    expected = torch.stack([member(ensemble, n)(x) for n in range(5)])
    torch.testing.assert_close(ensemble(x), expected, rtol=1e-5, atol=1e-5)


def test_only_the_chosen_members_are_computed(ensemble: Ensemble) -> None:
    x, chosen = torch.randn(9, 4), torch.tensor([3, 1])
    found = ensemble(x, chosen)
    torch.testing.assert_close(found, ensemble(x)[chosen], rtol=1e-5, atol=1e-5)
    found.sum().backward()
    untouched = [0, 2, 4]
    for parameter in ensemble.parameters():
        assert parameter.grad is not None
        assert not parameter.grad[untouched].any()


def test_a_frozen_ensemble_passes_gradients_to_its_inputs_alone(ensemble: Ensemble) -> None:
    x = torch.randn(9, 4, requires_grad=True)
    ensemble(x, torch.tensor([0, 2]), frozen=True).sum().backward()
    assert isinstance(x.grad, Tensor)
    assert x.grad.abs().min() > 0
    assert all(p.grad is None for p in ensemble.parameters())
