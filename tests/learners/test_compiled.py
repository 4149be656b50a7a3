"""Compiled losses: every objective's own has the gradients of the loss as written, and one that has not is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import picking
import points
import pytest
import rvq_kit
import squares
import torch
from torch import Tensor, nn

from learners import compiled
from learners.compiled import CompiledLoss
from learners.learner import Learner, LearnerConfig
from learners.system import SystemConfig
from replay.errors import BadInput, Missing

DREAMER4 = ("tokenizer", "dynamics", "agent", "imagination")
DCMPC: dict[str, dict[str, Any]] = {
    "fsq": {},
    "vq": {"world": {"encoding": "vq"}},
    "simnorm": {"world": {"encoding": "simnorm", "dynamics": "mse"}},
}


def compiles(test: Any) -> Any:
    """The compiler takes minutes."""
    return pytest.mark.slow(pytest.mark.timeout(3600)(test))


class Objective:
    """The mean square of a linear map, which `broken` returns in a way that torch 2.13 cuts off when it compiles."""

    def __init__(self, broken: bool = False) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net, self.broken = nn.Linear(3, 3), broken

    def trained(self) -> nn.Module:
        return self.net

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        error = self.net(batch).square().mean()
        return (error + batch.new_zeros(()), {"error": error.detach()}) if self.broken else (error, {})


def begun(objective: Any) -> CompiledLoss:
    return CompiledLoss(objective, objective.net)


def call(loss: CompiledLoss) -> Tensor:
    return loss(torch.ones(4, 3), torch.Generator().manual_seed(0))[0]


def apart(config: SystemConfig, module: Any, *stages: str) -> float:
    """How far the losses of the last of these stages are from each other, compiled and as written: a share. Any other
    gradient is refused."""
    losses = []
    for settings in (LearnerConfig(), LearnerConfig(compile=True)):
        learner = Learner(LearnerConfig(), config, module.SPEC, module.source, seed=0)
        for stage in stages:
            learner.config = settings if stage == stages[-1] else LearnerConfig()
            learner.begin(stage, stage, compiled.CHECKED + 1)
            losses.append(learner.update(compiled.CHECKED + 1)["loss"])
            learner.finish()
        learner.close()
    plain, other = losses[len(stages) - 1], losses[-1]
    return abs(plain - other) / abs(plain)


@compiles
@pytest.mark.parametrize("variant", DCMPC)
def test_dcmpc(variant: str) -> None:
    assert apart(points.config(**DCMPC[variant]), points, "dcmpc") < 0.01


@compiles
@pytest.mark.parametrize("stage", DREAMER4)
def test_dreamer4(stage: str) -> None:
    assert apart(squares.config(), squares, *DREAMER4[: DREAMER4.index(stage) + 1]) < 0.02


@compiles
def test_rvq() -> None:
    assert apart(rvq_kit.quick(), picking, "rvq") < 0.01


@compiles
def test_what_torch_cuts_off_is_refused() -> None:
    """A torch that passes here needs no check: see learners/compiled.py."""
    with pytest.raises(BadInput, match="2 of 2 parameters have no gradient") as caught:
        call(begun(Objective(broken=True)))
    assert "learner.compile=false" in caught.value.mend


@pytest.mark.parametrize(("wrong", "said"), [("cut", "no gradient"), ("scaled", "differ by")])
def test_other_gradients_are_refused(wrong: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def miscompiled(loss: Any) -> Any:
        def other(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
            value, metrics = loss(batch, generator)
            return (value.detach() if wrong == "cut" else 1.1 * value), metrics

        return other

    monkeypatch.setattr(torch, "compile", miscompiled)
    with pytest.raises(BadInput, match=said):
        call(begun(Objective()))


def test_it_is_checked_a_few_times_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither gradients, nor what it did to buffers, nor draws."""

    class Counting(Objective):
        calls = 0

        def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
            self.calls += 1
            self.net.seen += 1  # type: ignore[operator]
            noise = torch.rand((), generator=generator)
            return self.net(batch).mean() * noise, {"noise": noise}

    monkeypatch.setattr(torch, "compile", lambda loss: loss)
    objective = Counting()
    objective.net.register_buffer("seen", torch.zeros(()))
    loss, generator, expected = begun(objective), torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    for update in range(1, compiled.CHECKED + 3):
        _, metrics = loss(torch.ones(4, 3), generator)
        assert metrics["noise"] == torch.rand((), generator=expected)
        assert objective.net.seen == update
        assert objective.net.weight.grad is None
    assert objective.calls == 3 * compiled.CHECKED + 2


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config, "force_disable_caches", True)
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(Missing, match="cannot compile the loss here") as caught:
        call(begun(Objective()))
    assert "g++" in caught.value.mend
