"""The optimiser of a stage, built once; its learning rate changes through `param_groups`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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


class Optimiser:
    """One or two torch optimisers over named parameters, which is how their state is saved."""

    def __init__(self, optimisers: list[torch.optim.Optimizer], names: Mapping[Tensor, str]) -> None:
        self.optimisers, self.names = optimisers, names

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.names)

    def step(self) -> None:
        for optimiser in self.optimisers:
            optimiser.step()

    def zero_grad(self) -> None:
        for parameter in self.names:
            parameter.grad = None

    def set_lr(self, lr: float) -> None:
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr

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


def build(config: OptimConfig, module: nn.Module) -> Optimiser:
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) for linear maps and AdamW for the rest.

    Only the weights of linear maps and convolutions decay: not biases, norms, embeddings or learned tokens.
    Raises BadInput for an unknown optimiser name or if nothing is to be trained.
    """
    if config.name not in ("adamw", "muon"):
        raise BadInput(f"There is no optimiser {config.name!r}.", "Use adamw or muon.")
    names: dict[Tensor, str] = {}
    kinds: dict[str, list[nn.Parameter]] = {"linear": [], "matrix": [], "other": []}
    for name, parameter, kind in _classified(module):
        names[parameter] = name
        kinds[kind].append(parameter)
    if not names:
        raise BadInput("The objective trains no parameter.", "Let its trained() return what it updates.")
    muon = kinds["linear"] if config.name == "muon" else []
    decayed = kinds["matrix"] + ([] if muon else kinds["linear"])
    optimisers = [_muon(config, muon)] if muon else []
    if decayed or kinds["other"]:
        optimisers.append(_adamw(config, decayed, kinds["other"]))
    return Optimiser(optimisers, names)


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
