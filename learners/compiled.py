"""A loss compiled by torch, trusted once its gradients are those of the loss as it is written.

torch 2.13 may drop a gradient without a word: where its compiler finds that two results are one tensor of which one is
detached, neither has a gradient (pytorch/pytorch#195688).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from learners.system import Objective
from replay.errors import BadInput, Missing

Loss = Callable[[Any, torch.Generator], tuple[Tensor, Mapping[str, Tensor]]]
Gradients = dict[str, Tensor]  # by the names of the parameters that the loss reaches

CHECKED = 4  # updates: losses that do more in every other one are seen whole
TOLERANCE = 0.05  # of the gradient's norm: rounding, in bf16 too, and the few draws that it decides


class CompiledLoss:
    """`objective.loss`, compiled; the first few updates compute it as it is written too.

    Raises BadInput if the two have different gradients, Missing if torch cannot compile here.
    """

    def __init__(self, objective: Objective, network: nn.Module) -> None:
        """`network`: the whole system, whose buffers the loss may change."""
        self._written, self._compiled = objective.loss, torch.compile(objective.loss)
        self._objective, self._network, self._unchecked = objective, network, CHECKED

    def __call__(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        try:
            if self._unchecked:
                self._check(batch, generator)
            return self._compiled(batch, generator)
        except torch._dynamo.exc.BackendCompilerFailed as e:
            raise Missing(
                f"torch cannot compile the loss here: {str(e).strip().splitlines()[0]}",
                "Install a C++ compiler (apt-get install g++), or set learner.compile=false.",
            ) from e

    def _check(self, batch: Any, generator: torch.Generator) -> None:
        written = self._gradients(self._written, batch, generator)
        compiled = self._gradients(self._compiled, batch, generator)
        wrong = _difference(written, compiled)
        if wrong:
            name = type(self._objective).__name__
            raise BadInput(
                f"What torch {torch.__version__} compiles is not the loss of {name}: {wrong}.",
                "Set learner.compile=false.",
            )
        self._unchecked -= 1

    def _gradients(self, loss_of: Loss, batch: Any, generator: torch.Generator) -> Gradients:
        """Leaves everything as it was: the buffers, the generator, the gradients that are kept."""
        buffers = list(self._network.buffers())
        before, draws = [b.clone() for b in buffers], generator.get_state()
        names, parameters = zip(*self._objective.trained().named_parameters(), strict=True)
        loss, _ = loss_of(batch, generator)
        with torch.autocast(loss.device.type, enabled=False):
            found = torch.autograd.grad(loss, parameters, allow_unused=True) if loss.requires_grad else ()
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        generator.set_state(draws)
        return {name: gradient for name, gradient in zip(names, found, strict=False) if gradient is not None}


def _difference(written: Gradients, compiled: Gradients) -> str:
    """In words; "" where there is none worth the name."""
    lost = [name for name in written if name not in compiled and bool(written[name].any())]
    if lost:
        return f"{len(lost)} of {len(written)} parameters have no gradient, among them {lost[0]}"
    norm = _norm(list(written.values()))
    apart = _norm([written[name].float() - g.float() for name, g in compiled.items() if name in written])
    strange = _norm([g for name, g in compiled.items() if name not in written])
    if not torch.isfinite(norm) or float(apart + strange) <= TOLERANCE * float(norm):
        return ""
    return f"gradients of norm {float(norm):.3g} differ by {float(apart + strange):.3g}"


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([t.float().norm() for t in tensors])) if tensors else torch.zeros(())
