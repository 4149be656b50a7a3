"""Our losses are those of the released agent: on the same batch, with the same weights, where both mean the same.

git clone https://github.com/aidanscannell/dcmpc && pip install torchrl tensordict vector-quantize-pytorch
DISTWM_DCMPC=dcmpc python -m pytest tests/bench/test_dcmpc_official.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from learners.dcmpc import train
from learners.dcmpc.batches import Stretch, Update
from learners.dcmpc.critics import CriticsConfig
from learners.dcmpc.losses import weights
from learners.dcmpc.policy import PolicyConfig
from learners.dcmpc.system import DCMPC, DCMPCConfig
from learners.dcmpc.targets import Transitions, n_step
from learners.dcmpc.train import TrainConfig
from learners.dcmpc.world import WorldConfig
from replay.schema import EpisodeSpec

CHECKOUT = os.environ.get("DISTWM_DCMPC", "")
if not CHECKOUT:
    pytest.skip("DISTWM_DCMPC names no checkout of aidanscannell/dcmpc", allow_module_level=True)
for package in ("torchrl", "tensordict", "vector_quantize_pytorch"):
    pytest.importorskip(package)

from dcmpc_peer import Peer  # noqa: E402  (imports what may be missing)

OBSERVATIONS, ACTIONS, ROWS, HORIZON = 7, 3, 16, 5
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def system(**settings: Any) -> DCMPC:
    torch.manual_seed(0)
    config = DCMPCConfig(
        world=WorldConfig(latent_dim=16, encoder=(32,), hidden=(32, 24), reward_high=2.0),
        critics=CriticsConfig(drawn=5, hidden=(32, 24)),  # all of them, so that there is no draw
        policy=PolicyConfig(hidden=(32, 24)),
        train=TrainConfig(batch_size=ROWS, smoothing=0.0, policy_every=1, **settings),
    )
    return config.build(EpisodeSpec.build({"state": ((OBSERVATIONS,), "float32")}, ACTIONS))


def stretch() -> Stretch:
    """The last two rows end their episodes, one of them in a terminal state."""
    g = torch.Generator().manual_seed(1)
    flags = [torch.zeros(HORIZON, ROWS, dtype=torch.bool) for _ in range(2)]
    last, terminal = flags
    last[-1, -2:] = True
    terminal[-1, -1] = True
    return Stretch(
        observation=torch.randn(HORIZON + 1, ROWS, OBSERVATIONS, generator=g),
        action=torch.rand(HORIZON, ROWS, ACTIONS, generator=g) * 2 - 1,
        seen=Transitions(torch.rand(HORIZON, ROWS, generator=g), terminal, last, torch.ones_like(last)),
    )


def update(ours: DCMPC, given: Stretch) -> Update:
    config, seen = ours.config.train, given.seen
    kept = seen.inside & ~seen.last if config.mask_done_bug else seen.inside
    returns = n_step(seen, config.n_step, config.gamma, config.bootstrap_gamma_bug, config.nstep_done_bug)
    ones = torch.ones(ROWS)
    return Update(given.observation, given.action, seen.reward, weights(kept, config.rho), returns, ones, improves=True)


def losses(ours: DCMPC) -> tuple[dict[str, Tensor], Tensor]:
    objective = ours.objective("dcmpc")
    objective.trained().requires_grad_(True)
    loss, metrics = objective.loss(update(ours, stretch()), torch.Generator().manual_seed(0))
    return dict(metrics), loss


@pytest.fixture
def drawn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides draw codes with the same noise, each in its own layout."""
    count = 15
    noise = torch.empty(HORIZON, ROWS, count, 16).exponential_(generator=torch.Generator().manual_seed(2))
    steps = iter(noise)
    original = torch.nn.functional.gumbel_softmax

    def same(logits: Tensor, tau: float, hard: bool, dim: int) -> Tensor:
        assert (tau, hard, dim) == (1, True, -1)
        soft = ((logits - next(steps).transpose(1, 2).log()) / tau).softmax(dim)
        one_hot = torch.nn.functional.one_hot(soft.argmax(dim), count).float()
        return one_hot - soft.detach() + soft

    assert original is not same
    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", same)
    monkeypatch.setattr(train, "exponential", lambda shape, generator: noise)


@pytest.mark.parametrize("stochastic", [True, False])
def test_the_world_models_loss_and_gradient(drawn_alike: None, stochastic: bool) -> None:
    ours = system(stochastic=stochastic, mask_done_bug=True)
    peer = Peer(Path(CHECKOUT), ours, OBSERVATIONS, ACTIONS)
    their_loss, info = peer.agent.model.loss(peer.samples(stretch()))
    their_loss.backward()
    found, loss = losses(ours)
    loss.backward()
    torch.testing.assert_close(found["model"], their_loss.detach(), **CLOSE)
    torch.testing.assert_close(found["reward"], torch.tensor(info["reward_loss"]), **CLOSE)
    names = (("encoder", peer.agent.model._encoder["state"]), ("rewards", peer.agent.model._reward))
    for name, theirs in (*names, ("dynamics", peer.agent.model._trans)):
        norms = [[p.grad.norm() for p in module.parameters()] for module in (getattr(ours.world, name), theirs)]
        torch.testing.assert_close(*norms, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_the_critics_and_the_policys_loss(n: int) -> None:
    ours = system(n_step=n, bootstrap_gamma_bug=True, nstep_done_bug=True)
    peer = Peer(Path(CHECKOUT), ours, OBSERVATIONS, ACTIONS)
    batch = peer.with_codes(peer.samples(stretch()))
    for optimiser in (peer.agent.q_opt, peer.agent.pi_opt):
        optimiser.step = lambda: None  # the critics' loss comes first, and ours takes both before the step
    info = peer.agent.critic_update_step(batch) | peer.agent.pi_update_step(batch)
    found, _ = losses(ours)
    torch.testing.assert_close(found["critic"], torch.tensor(info["q_loss"]), **CLOSE)
    torch.testing.assert_close(found["value"], torch.tensor(info["q_mean"]), **CLOSE)
    torch.testing.assert_close(found["policy"], torch.tensor(info["actor_loss"]), **CLOSE)


@pytest.mark.parametrize("n", [1, 3])
def test_what_is_mended_differs(n: int) -> None:
    """Where an episode ends, and for n = 1 everywhere."""
    released = n_step(stretch().seen, 5 if n > 1 else 1, 0.99, gamma_bug=True, done_bug=True)
    mended = n_step(stretch().seen, 5 if n > 1 else 1, 0.99)
    differ = released.discount != mended.discount
    assert differ.all() if n == 1 else differ.tolist() == [False] * (ROWS - 2) + [True, True]


def test_parameters_are_as_many() -> None:
    ours = system()
    peer = Peer(Path(CHECKOUT), ours, OBSERVATIONS, ACTIONS)
    trained = sum(p.numel() for part in (ours.world, ours.critics, ours.policy) for p in part.parameters())
    assert trained == peer.agent.total_params
