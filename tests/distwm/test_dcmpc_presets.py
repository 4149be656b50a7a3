"""The presets of DC-MPC against the paper's table, and what a run of it is checked for before it starts."""

from __future__ import annotations

import pytest

from distwm.config import load
from distwm.preflight import check_machine
from learners.dcmpc.system import DCMPCConfig
from learners.system import OptimConfig
from replay.errors import BadInput

# size: latent dimensions, episodes until the noise is least
CLASSES = {"paper": (512, 50), "medium": (512, 150), "hard": (1024, 500)}


def adam(lr: float, weight_decay: float = 0.0) -> OptimConfig:
    return OptimConfig(lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay, warmup_steps=0, decay=0.0, clip_norm=20.0)


@pytest.mark.parametrize("size", CLASSES)
def test_sizes_are_those_of_the_paper(size: str) -> None:
    config = load("dcmpc", {"size": size})
    system: DCMPCConfig = config.system
    world, critics, policy, train, mppi = system.world, system.critics, system.policy, system.train, system.mppi
    assert (world.latent_dim, system.exploration.episodes) == CLASSES[size]
    assert (world.levels, world.encoder, world.hidden) == ((5, 3), (256,), (512, 512))
    assert (world.encoding, world.dynamics, train.stochastic) == ("fsq", "ce", True)
    assert (world.reward_low, world.reward_high, config.env.action_repeat) == (0, 2, 2)
    assert (world.optim, critics.optim, policy.optim) == (adam(1e-4, 0.01), adam(3e-4), adam(3e-4))
    assert (critics.members, critics.drawn, critics.hidden, policy.hidden) == (5, 2, (512, 512), (512, 512))
    assert (train.batch_size, train.horizon, train.rho, train.gamma, train.tau) == (512, 5, 0.9, 0.99, 0.005)
    assert (train.n_step, train.policy_every, train.smoothing, train.smoothing_clip) == (1, 2, 0.2, 0.3)
    assert not any((train.bootstrap_gamma_bug, train.nstep_done_bug, train.mask_done_bug))
    assert (mppi.horizon, mppi.iterations, mppi.samples, mppi.policy_samples, mppi.elites) == (3, 6, 512, 24, 64)
    assert (mppi.temperature, mppi.std, mppi.std_least, mppi.discount, mppi.action) == (0.5, 2, 0.05, 0.9, "elite")
    assert (system.exploration.first, system.exploration.last) == (1.0, 0.1)
    stage = config.stages["learn"]
    assert (stage.policy, stage.online.seed_policy, stage.online.seed_episodes) == ("mppi", "random", 10)
    assert (stage.online.warmup_updates, stage.online.updates_per_step, stage.online.overlap) == (5000, 1.0, False)
    assert (stage.online.evaluate_every_steps, stage.online.evaluate_episodes) == (12500, 10)


@pytest.mark.parametrize("size", ["tiny", "cpu", *CLASSES])
def test_returns_are_learnt_in_full_precision(size: str) -> None:
    """Also on a GPU, where learners compute in bfloat16 else: a critic would know 100 from 100.5 at best."""
    assert load("dcmpc", {"size": size}).learner.precision == "float32"


def test_an_objective_that_there_is_not_is_named_before_the_run() -> None:
    with pytest.raises(BadInput, match=r"no objective 'wrong'"):
        check_machine(load("dcmpc", {"size": "tiny", "stages.learn.objective": "wrong"}))
