"""The optimiser of a stage, built once; its learning rate changes through `param_groups`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from learners.system import OptimConfig
from replay.errors import BadInput

# Their `weight` is no linear map of activations: it is looked up or it scales, so shrinking it is no regularisation.
_NOT_MATRICES = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


def learning_rate(step: int, total: int, config: OptimConfig) -> float:
    """The rate of update `step` (from 0) of `total`: linear warm-up, constant, linear cool-down to nearly 0.

    The cool-down takes the last `decay` share of the stage. Where both overlap the lower one rules.
    """
    warmup = (step + 1) / config.warmup_steps if config.warmup_steps else 1.0
    cooldown_steps = round(config.decay * total)
    cooldown = (total - step) / cooldown_steps if cooldown_steps else 1.0
    return config.lr * max(0.0, min(1.0, warmup, cooldown))


def averaging(config: OptimConfig | Mapping[str, OptimConfig]) -> float:
    """The decay of averaged weights; 0 keeps none. Parts with settings of their own have none."""
    return config.ema if isinstance(config, OptimConfig) else 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """Parameters with settings of their own, and the torch optimisers that update them."""

    config: OptimConfig
    optimisers: list[torch.optim.Optimizer]
    parameters: list[Tensor]

    def set_lr(self, lr: float) -> None:
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr

    @property
    def moves(self) -> bool:
        """Whether any parameter has a gradient."""
        return any(parameter.grad is not None for parameter in self.parameters)

    def clip(self) -> Tensor:
        """Clips the gradients there are to the part's norm; returns the norm before."""
        return nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm or math.inf)


class Optimiser:
    """Torch optimisers over named parameters, which is how their state is saved."""

    def __init__(self, parts: list[Part], names: Mapping[Tensor, str]) -> None:
        self.parts, self.names = parts, names

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.names)

    @property
    def optimisers(self) -> list[torch.optim.Optimizer]:
        return [optimiser for part in self.parts for optimiser in part.optimisers]

    def schedule(self, step: int, total: int) -> float:
        """Sets the rates of update `step` (from 0) of `total`; returns that of the first part."""
        rates = [learning_rate(step, total, part.config) for part in self.parts]
        for part, rate in zip(self.parts, rates, strict=True):
            part.set_lr(rate)
        return rates[0]

    def clip(self) -> Tensor:
        """Clips each part's gradients to its own norm; returns the norm of all before."""
        norms = [part.clip() for part in self.parts if part.moves]  # torch's norm of nothing lies on the CPU
        return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))

    def step(self) -> None:
        for optimiser in self.optimisers:
            optimiser.step()

    def zero_grad(self) -> None:
        for parameter in self.names:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """`parameter/slot` -> tensor, as in `encoder.weight/exp_avg`. Empty before the first step."""
        return {
            f"{self.names[parameter]}/{slot}": value
            for optimiser in self.optimisers
            for parameter, slots in optimiser.state.items()
            for slot, value in slots.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Raises BadInput if `state` speaks of other parameters."""
        slots: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, slot = key.rpartition("/")
            slots.setdefault(name, {})[slot] = value.clone()  # never a view of a file that may be deleted
        strangers = sorted(slots.keys() - set(self.names.values()))
        if strangers:
            raise BadInput(
                f"The optimiser state is of other parameters: {strangers[:3]}.",
                "Use the checkpoint's own configuration.",
            )
        for optimiser in self.optimisers:
            held = [p for group in optimiser.param_groups for p in group["params"]]
            found = {i: slots[self.names[p]] for i, p in enumerate(held) if self.names[p] in slots}
            optimiser.load_state_dict({**optimiser.state_dict(), "state": found})


def build(config: OptimConfig | Mapping[str, OptimConfig], module: nn.Module) -> Optimiser:
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) for linear maps and AdamW for the rest.

    A mapping has the settings of each child of `module` by its name; a part without a gradient in an update is left
    alone by it. Only the weights of linear maps and convolutions decay: not biases, norms, embeddings or learned
    tokens. Raises BadInput for an unknown optimiser name, for names that are not the children's, or if nothing is to
    be trained.
    """
    if isinstance(config, OptimConfig):
        part, names = _part(config, module, "")
        return Optimiser([part], names)
    children = dict(module.named_children())
    if children.keys() != config.keys():
        raise BadInput(
            f"There are optimisers for {sorted(config)}, but {sorted(children)} are to be trained.",
            "Let the objective's `optim` name the children of its trained().",
        )
    parts = [_part(settings, children[name], f"{name}.") for name, settings in config.items()]
    return Optimiser([part for part, _ in parts], {p: name for _, names in parts for p, name in names.items()})


def _part(config: OptimConfig, module: nn.Module, prefix: str) -> tuple[Part, dict[Tensor, str]]:
    if config.name not in ("adamw", "muon"):
        raise BadInput(f"There is no optimiser {config.name!r}.", "Use adamw or muon.")
    names: dict[Tensor, str] = {}
    kinds: dict[str, list[nn.Parameter]] = {"linear": [], "matrix": [], "other": []}
    for name, parameter, kind in _classified(module):
        names[parameter] = prefix + name
        kinds[kind].append(parameter)
    if not names:
        raise BadInput("The objective trains no parameter.", "Let its trained() return what it updates.")
    muon = kinds["linear"] if config.name == "muon" else []
    decayed = kinds["matrix"] + ([] if muon else kinds["linear"])
    optimisers = [_muon(config, muon)] if muon else []
    if decayed or kinds["other"]:
        optimisers.append(_adamw(config, decayed, kinds["other"]))
    return Part(config, optimisers, list(names)), names


def _classified(module: nn.Module) -> Iterator[tuple[str, nn.Parameter, str]]:
    """(name, parameter, kind) of everything that requires a gradient; a shared parameter counts once."""
    seen: set[nn.Parameter] = set()
    for path, owner in module.named_modules():
        for local, parameter in owner.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield f"{path}.{local}".lstrip("."), parameter, _kind(owner, local, parameter)


def _kind(owner: nn.Module, local: str, parameter: nn.Parameter) -> str:
    if parameter.ndim < 2 or not local.endswith("weight") or isinstance(owner, _NOT_MATRICES):
        return "other"
    return "linear" if isinstance(owner, nn.Linear) else "matrix"


def _adamw(config: OptimConfig, decayed: list[nn.Parameter], others: list[nn.Parameter]) -> torch.optim.Optimizer:
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    fused = all(p.device.type in ("cpu", "cuda") for p in [*decayed, *others])
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.lr, betas=config.betas, eps=config.eps, fused=fused
    )


def _muon(config: OptimConfig, matrices: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Updates are scaled to AdamW's size (Liu et al. 2025, "Muon is scalable", eq. 4), so that one `lr` serves both."""
    return torch.optim.Muon(matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
