"""Optimisers and averaged weights against closed forms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from learners import optim
from learners.ema import EMA
from learners.system import OptimConfig
from replay.errors import BadInput


def test_learning_rate_by_hand() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=4, decay=0.2)
    rates = [optim.learning_rate(step, 20, config) for step in range(20)]
    assert rates == [0.25, 0.5, 0.75, 1.0] + [1.0] * 13 + [0.75, 0.5, 0.25]
    flat = OptimConfig(lr=0.5, warmup_steps=0, decay=0.0)
    assert [optim.learning_rate(step, 3, flat) for step in range(3)] == [0.5] * 3


@given(st.integers(1, 500), st.integers(0, 800), st.floats(0, 1))
def test_learning_rate_stays_in_its_range(total: int, warmup: int, decay: float) -> None:
    config = OptimConfig(lr=0.3, warmup_steps=warmup, decay=decay)
    rates = [optim.learning_rate(step, total, config) for step in range(total)]
    assert all(0 < rate <= 0.3 for rate in rates)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(3, 4))
        self.embed = nn.Embedding(5, 4)
        self.patch = nn.Conv2d(3, 4, 2)
        self.norm = nn.LayerNorm((2, 4))
        self.first, self.tied = nn.Linear(4, 4), nn.Linear(4, 4)
        self.tied.weight = self.first.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_only_matrices_decay(name: str) -> None:
    """With zero gradients an update is the decay alone: w (1 - lr wd)."""
    net = Net()
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    optimiser = optim.build(OptimConfig(name=name, lr=0.1, warmup_steps=0, decay=0.0, weight_decay=0.5), net)
    assert optimiser.schedule(0, 10) == 0.1
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    decayed = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
    assert decayed == {"patch.weight", "first.weight"}
    assert torch.allclose(net.patch.weight, before["patch.weight"] * 0.95)
    # Muon's decay goes by the unadjusted rate too.
    assert torch.allclose(net.first.weight, before["first.weight"] * 0.95)


def test_adamw_is_torchs_own() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    a = optim.build(OptimConfig(weight_decay=0.0, lr=0.01), ours)
    b = torch.optim.AdamW(theirs.parameters(), 0.01, (0.9, 0.95), 1e-8, 0.0)
    x = torch.randn(8, 3)
    for _ in range(5):
        for net, step in ((ours, a), (theirs, b)):
            net.zero_grad()
            net(x).square().mean().backward()
            step.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-7)


def test_muon_takes_linear_maps_and_adamw_the_rest() -> None:
    optimiser = optim.build(OptimConfig(name="muon"), Net())
    muon, adamw = optimiser.optimisers
    assert isinstance(muon, torch.optim.Muon)
    assert [optimiser.names[p] for p in muon.param_groups[0]["params"]] == ["first.weight"]
    rest = {optimiser.names[p] for group in adamw.param_groups for p in group["params"]}
    assert rest == {
        *("token", "embed.weight", "patch.weight", "patch.bias", "norm.weight", "norm.bias", "first.bias", "tied.bias")
    }


def test_state_round_trip_and_strangers() -> None:
    net = nn.Linear(3, 2)
    optimiser = optim.build(OptimConfig(), net)
    assert optimiser.state() == {}
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    other = optim.build(OptimConfig(), copy.deepcopy(net))
    other.load(optimiser.state())
    assert optimiser.state().keys() == other.state().keys()
    assert all(torch.equal(x, other.state()[n]) for n, x in optimiser.state().items())
    with pytest.raises(BadInput, match="other parameters"):
        other.load({"stranger/step": torch.tensor(1.0)})


def test_bad_optimisers() -> None:
    with pytest.raises(BadInput, match="adan"):
        optim.build(OptimConfig(name="adan"), nn.Linear(1, 1))
    with pytest.raises(BadInput, match="trains no parameter"):
        optim.build(OptimConfig(), nn.Linear(1, 1).requires_grad_(False))


@given(st.floats(0.01, 0.999), st.lists(st.floats(-5, 5), min_size=1, max_size=12))
def test_average_has_its_closed_form(decay: float, values: list[float]) -> None:
    net = nn.Linear(1, 1, bias=False)
    ema = EMA(net, decay)
    for value in values:
        nn.init.constant_(net.weight, value)
        ema.update()
    shares = np.array([decay ** (len(values) - i) for i in range(1, len(values) + 1)]) * (1 - decay)
    expected = float(shares @ np.float32(values)) / (1 - decay ** len(values))
    assert float(ema.average["weight"]) == pytest.approx(expected, abs=1e-4)


def test_average_is_put_in_and_taken_out() -> None:
    net = nn.Linear(2, 2)
    ema = EMA(net, 0.5)
    with ema.applied():  # nothing averaged yet: nothing changes
        pass
    ema.update()
    average = net.weight.clone()
    nn.init.zeros_(net.weight)
    with ema.applied():
        assert torch.equal(net.weight, average)
    assert torch.equal(net.weight, torch.zeros(2, 2))
    ema.keep()
    assert torch.equal(net.weight, average)
    with pytest.raises(BadInput):
        EMA(net, 1.0)


def test_parts_have_settings_of_their_own() -> None:
    """Each child's rate and clipping are its own, one without gradients stays, and the state names the children."""
    net = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False), "c": nn.Linear(1, 1)})
    plain = {"warmup_steps": 0, "decay": 0.0, "weight_decay": 0.0, "eps": 0.0}
    rates = {name: OptimConfig(lr=lr, clip_norm=clip, **plain) for name, lr, clip in (("a", 1.0, 3.0), ("b", 0.5, 40))}
    optimiser = optim.build(rates | {"c": OptimConfig()}, net)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for name in "ab":
        net[name].weight.grad = torch.full((1, 1), 4.0)
    assert optimiser.schedule(0, 10) == 1.0
    assert optimiser.clip() == pytest.approx(32**0.5)
    assert [net[name].weight.grad.item() for name in "ab"] == pytest.approx([3.0, 4.0])
    optimiser.step()  # Adam's first step is the rate itself
    moved = {name: (before[name] - p).abs().max().item() for name, p in net.named_parameters()}
    assert moved == pytest.approx({"a.weight": 1.0, "b.weight": 0.5, "c.weight": 0.0, "c.bias": 0.0})
    assert {name.split("/")[0] for name in optimiser.state()} == {"a.weight", "b.weight"}


def test_a_part_without_gradients_does_not_move_the_norm_to_another_device() -> None:
    """torch says that nothing has the norm 0, on the CPU wherever the parameters are."""
    module = nn.ModuleDict({"moved": nn.Linear(2, 2), "left": nn.Linear(2, 2)}).to("meta")
    optimiser = optim.build({"moved": OptimConfig(name="adamw"), "left": OptimConfig(name="adamw")}, module)
    for parameter in module["moved"].parameters():
        parameter.grad = torch.ones_like(parameter)
    assert optimiser.clip().device.type == "meta"


def test_parts_must_be_the_children() -> None:
    with pytest.raises(BadInput, match="optimisers for"):
        optim.build({"x": OptimConfig()}, nn.ModuleDict({"a": nn.Linear(1, 1)}))
