"""The released agent of DC-MPC (aidanscannell/dcmpc) beside ours: from a checkout, with our weights and batches.

Needs torchrl, tensordict and vector-quantize-pytorch; the checkout's other imports, none of which the agent uses when
it learns and plans, are stubs. Its code lays the numbers of a state out by latent dimension, ours by channel.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from learners.dcmpc.batches import Stretch
from learners.dcmpc.system import DCMPC

STUBS = (
    "wandb",
    "hydra_plugins",
    "hydra_plugins.hydra_submitit_launcher",
    "hydra_plugins.hydra_submitit_launcher.config",
)


class Peer:
    """An agent of the released code with the sizes and settings of `system`, and its weights."""

    def __init__(self, checkout: Path, system: DCMPC, observations: int, actions: int, **settings: Any) -> None:
        self.module = _imported(checkout)
        config = system.config
        world, train, mppi = config.world, config.train, config.mppi
        given = {
            "latent_dim": world.latent_dim,
            "fsq_levels": list(world.levels),
            "enc_mlp_dims": list(world.encoder),
            "mlp_dims": list(config.policy.hidden),
            "horizon": train.horizon,
            "rho": train.rho,
            "batch_size": train.batch_size,
            "gamma": train.gamma,
            "nstep": train.n_step,
            "tau": train.tau,
            "num_critics": config.critics.members,
            "q_sample_size": config.critics.drawn,
            "policy_noise": train.smoothing,
            "noise_clip": train.smoothing_clip,
            "actor_update_freq": train.policy_every,
            "enc_lr": world.optim.lr,
            "lr": config.policy.optim.lr,
            "unc_prop_mode": "sample" if train.stochastic else "weighted-avg",
            "r_min": world.reward_low if world.reward_high else None,
            "r_max": world.reward_high or None,
            "iterations": mppi.iterations,
            "num_samples": mppi.samples,
            "num_elites": mppi.elites,
            "num_pi_trajs": mppi.policy_samples,
            "plan_horizon": mppi.horizon,
            "device": "cpu",
            "verbose": False,
        }
        low, high = -torch.ones(actions), torch.ones(actions)
        self.agent = self.module.DCMPC(
            self.module.DCMPCConfig(**{**given, **settings}),
            obs_spec={"state": SimpleNamespace(shape=(observations,))},
            act_spec=SimpleNamespace(shape=(actions,), low=low, high=high),
        )
        _copy_weights(system, self.agent)

    def samples(self, stretch: Stretch) -> Any:
        """A stretch as the released code's batch."""
        from tensordict import TensorDict

        o, seen = stretch.observation, stretch.seen
        first, later = (TensorDict({"state": x}, batch_size=x.shape[:2]) for x in (o[:-1], o[1:]))
        return self.module.ReplayBufferSamples(
            observations=first,
            actions=stretch.action,
            next_observations=later,
            dones=seen.last,
            terminateds=seen.terminal.int(),
            rewards=seen.reward,
            next_state_gammas=torch.ones_like(seen.reward),
            zs=None,
            next_zs=None,
        )

    def with_codes(self, samples: Any) -> Any:
        """The same with the states of its observations, one transition of several steps a row."""
        with torch.no_grad():
            codes = {
                name: self.agent.model.encode(getattr(samples, name)) for name in ("observations", "next_observations")
            }
        samples = samples._replace(zs=codes["observations"], next_zs=codes["next_observations"])
        return self.module.utils.to_nstep(samples, nstep=self.agent.cfg.nstep, gamma=self.agent.cfg.gamma)


def _imported(checkout: Path) -> ModuleType:
    import torchrl.data

    for old, new in {"BoundedTensorSpec": "Bounded", "CompositeSpec": "Composite"}.items():
        if not hasattr(torchrl.data, old):
            setattr(torchrl.data, old, getattr(torchrl.data, new))
    for name in STUBS:
        if name not in sys.modules:
            sys.modules[name] = ModuleType(name)
    sys.modules["wandb"].run = None  # type: ignore[attr-defined]
    sys.modules[STUBS[-1]].SlurmQueueConf = object  # type: ignore[attr-defined]
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return importlib.import_module("dcmpc")


@torch.no_grad()
def _copy_weights(system: DCMPC, agent: Any) -> None:
    world, size = system.world, system.config.world.latent_dim
    z = _by_dimension(size, world.encoding.width)
    za = torch.cat((z, torch.arange(world.actions) + len(z)))
    _copy(world.encoder, agent.model._encoder["state"], rows=_by_dimension(size, world.encoding.raw))
    _copy(world.dynamics, agent.model._trans, columns=za, rows=_by_dimension(size, world.encoding.count))
    _copy(world.rewards, agent.model._reward, columns=za)
    for ours, theirs in ((system.policy, agent._pi), (system.targets.policy, agent._pi_tar)):
        _copy(ours.net, theirs, columns=z)
    for critics, ensemble in ((system.critics, agent._Qs), (system.targets.critics, agent.Qs_tar)):
        _copy_ensemble(critics.nets, ensemble, za)


def _by_dimension(dimensions: int, numbers: int) -> Tensor:
    """Where our number is that lies at each of their places."""
    return torch.arange(dimensions * numbers).view(numbers, dimensions).T.flatten()


def _copy(ours: nn.Module, theirs: nn.Module, columns: Tensor | None = None, rows: Tensor | None = None) -> None:
    state = {name: value.clone() for name, value in ours.state_dict().items()}
    last = max(int(name.split(".")[0]) for name in state)
    if columns is not None:
        state["0.weight"] = state["0.weight"][:, columns]
    if rows is not None:
        for name in (f"{last}.weight", f"{last}.bias"):
            state[name] = state[name][rows]
    theirs.load_state_dict(state)


def _copy_ensemble(ours: nn.Module, theirs: Any, columns: Tensor) -> None:
    found = {}
    for n, layer in enumerate(ours.layers):  # type: ignore[arg-type, union-attr]
        weight = layer.weight.transpose(1, 2)
        found[f"{n}.weight"] = weight[..., columns] if n == 0 else weight
        found[f"{n}.bias"] = layer.bias[:, 0]
        if layer.normed:
            found |= {f"{n}.norm.weight": layer.gain[:, 0], f"{n}.norm.bias": layer.shift[:, 0]}
    for name, parameter in zip(theirs.params_dict, theirs.params, strict=True):
        parameter.copy_(found[name])
