"""The objective of DC-MPC: each loss moves its own part, batches are functions of the key, ends of episodes are met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import points
import pytest
import torch
from torch import Tensor

from learners.dcmpc.batches import draw
from learners.dcmpc.noise import LARGEST, exponential
from learners.dcmpc.system import DCMPC
from learners.dcmpc.train import DCMPCObjective
from learners.learner import Learner, LearnerConfig
from learners.seeding import generator
from replay.errors import BadInput
from replay.schema import EpisodeSpec

CPU = torch.device("cpu")
ABLATIONS = [
    {"world": {"dynamics": "mse"}},
    {"world": {"encoding": "vq"}},
    {"world": {"encoding": "onehot"}},
    {"world": {"encoding": "continuous", "dynamics": "mse"}},
    {"world": {"encoding": "simnorm", "dynamics": "mse"}},
    {"stochastic": False},
    {"n_step": 3},
]


def new_learner(**settings: object) -> Learner:
    return Learner(LearnerConfig(), points.config(**settings), points.SPEC, points.source, seed=0)  # type: ignore[arg-type]


def parts(**settings: object) -> tuple[DCMPC, DCMPCObjective]:
    torch.manual_seed(0)
    system = points.config(**settings).build(points.SPEC)  # type: ignore[arg-type]
    system.requires_grad_(False)
    objective = system.objective("dcmpc")
    assert isinstance(objective, DCMPCObjective)
    objective.trained().requires_grad_(True)
    return system, objective


def state(system: torch.nn.Module, *prefixes: str) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in system.state_dict().items() if name.startswith(prefixes)}


def changed(system: torch.nn.Module, before: dict[str, Tensor]) -> bool:
    return any(not torch.equal(t, system.state_dict()[name]) for name, t in before.items())


def test_transitions_are_those_of_the_record() -> None:
    """Record t + 1 holds the action that led from observation t to t + 1, and the reward that came with it."""
    drawn = draw(points.source(), (1, 2, 3), 16, 5, "state")
    o, a, r = drawn.observation, drawn.action, drawn.seen.reward
    assert o.shape == (6, 16, 4)
    speed = 0.8 * o[:-1, :, 2:] + 0.3 * a
    torch.testing.assert_close(o[1:, :, 2:], speed)
    torch.testing.assert_close(o[1:, :, :2], (o[:-1, :, :2] + speed).clamp(-1, 1))
    torch.testing.assert_close(r, 2 - o[1:, :, :2].abs().sum(-1))
    assert drawn.seen.inside.all()


def test_stretches_across_episodes_know_where_theirs_ends() -> None:
    """The states of the next episode are not led to, and its actions bring nothing here."""
    drawn = draw(points.source(steps=6, terminal=True, valid_share=0.0), (1, 2, 3), 256, 5, "state", across=True)
    seen = drawn.seen
    lengths = seen.inside.sum(0)
    assert set(lengths.tolist()) == set(range(6))
    for row, length in enumerate(lengths.tolist()):
        assert seen.inside[:length, row].all()
        assert not seen.inside[length:, row].any()
        ends = seen.terminal[:length, row].tolist()
        assert ends == [t == length - 1 for t in range(length)]
    speed = 0.8 * drawn.observation[:-1, :, 2:] + 0.3 * drawn.action
    torch.testing.assert_close(drawn.observation[1:, :, 2:][seen.inside], speed[seen.inside])


def test_terminal_steps_are_met_only_across() -> None:
    for across in (True, False):
        _, objective = parts(across=across, batch_size=512)
        source = points.source(steps=12, terminal=True)
        batch = objective.batch(source, (0, 1, 2, 0), 0.0)
        terminal = int((batch.returns.discount == 0).sum())
        assert terminal > 10 if across else terminal == 0
        assert bool((batch.whole == 1).all()) is not across


def test_batches_are_functions_of_the_key() -> None:
    _, objective = parts()
    one, other, again = (objective.batch(points.source(), (0, 1, n, 0), 0.0) for n in (4, 5, 4))
    assert torch.equal(one.observation, again.observation)
    assert not torch.equal(one.observation, other.observation)
    assert (one.improves, other.improves) == (False, True)


def test_each_loss_reaches_its_own_part_alone() -> None:
    system, objective = parts()
    source = points.source()
    for improves in (False, True):
        batch = objective.batch(source, (0, 1, int(improves), 0), 0.0)
        objective.trained().zero_grad()
        loss, metrics = objective.loss(batch, generator((0,), CPU))
        loss.backward()
        found = {name: part.grad is not None for name, part in system.named_parameters()}
        assert all(has for name, has in found.items() if name.startswith(("world", "critics")))
        assert all(has is improves for name, has in found.items() if name.startswith("policy"))
        assert not any(has for name, has in found.items() if name.startswith("targets"))
        terms = sum(metrics[name] for name in ("model", "critic", "policy") if name in metrics)
        torch.testing.assert_close(loss.detach(), torch.as_tensor(terms))


def test_the_worlds_gradient_is_that_of_its_own_loss() -> None:
    """The critics' and the policy's losses read states, and change nothing about them."""
    gradients = []
    for improves in (0, 1):
        system, objective = parts()
        batch = objective.batch(points.source(), (0, 1, 2, 0), 0.0)._replace(improves=bool(improves))
        loss, _ = objective.loss(batch, generator((0,), CPU))
        loss.backward()
        gradients.append([p.grad.clone() for p in system.world.parameters()])
    torch.testing.assert_close(*gradients)


def test_targets_follow_what_was_updated() -> None:
    learner = new_learner()
    learner.begin("learn", "dcmpc", 4)
    for improves in (False, True, False, True):
        before = {
            part: state(learner.network, part) for part in ("policy", "targets.policy", "targets.critics", "world")
        }
        learner.update(1)
        moved = {part: changed(learner.network, values) for part, values in before.items()}
        assert moved == {"policy": improves, "targets.policy": improves, "targets.critics": True, "world": True}
    learner.close()


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    straight = new_learner()
    straight.begin("learn", "dcmpc", 12)
    straight.update(12)
    first = new_learner()
    first.begin("learn", "dcmpc", 12)
    first.update(5)
    first.save(tmp_path / "saved")
    first.close()
    second = new_learner()
    second.load(tmp_path / "saved")
    second.update(7)
    assert not changed(second.network, state(straight.network, ""))
    straight.close()
    second.close()


def test_it_learns_to_predict_and_to_act() -> None:
    """Held-out prediction beats the frequencies of the codes, and the policy finds its way to the middle."""
    learner = new_learner()
    learner.begin("learn", "dcmpc", 300)
    first, _, last = (learner.update(updates) for updates in (20, 260, 20))
    assert last["reward"] < 0.5 * first["reward"]
    gate = learner.gate()
    assert all(gate[f"gain_h{h}"] > 1.05 for h in range(1, 6))
    assert gate["active"] > 0.3
    system = learner.system
    assert isinstance(system, DCMPC)
    far = torch.tensor([[0.8, 0.8, 0.0, 0.0], [-0.8, -0.8, 0.0, 0.0]])
    action = system.policy(system.world.encode(far))
    assert (action[0] < -0.2).all()
    assert (action[1] > 0.2).all()
    shown = learner.exhibits()
    assert shown["code_usage"]["usage"].shape == (8, 15)
    np.testing.assert_allclose(shown["code_usage"]["usage"].sum(1), 1, rtol=1e-5)
    assert shown["prediction"]["error"].shape == (5,)
    learner.close()


@pytest.mark.parametrize("settings", ABLATIONS, ids=str)
def test_ablations_learn_too(settings: dict[str, object]) -> None:
    learner = new_learner(**settings)
    learner.begin("learn", "dcmpc", 60)
    first, _, last = (learner.update(20) for _ in range(3))
    assert all(np.isfinite(x) for x in last.values())
    assert last["reward"] < first["reward"]
    assert {"error_h1", "gain_h5"} <= learner.gate().keys()
    learner.close()


def test_without_held_out_episodes_there_are_no_figures() -> None:
    _, objective = parts()
    assert objective.gate(points.source(valid_share=0.0)) == {}


def test_noise_is_exponential_seeded_and_never_zero() -> None:
    for shape in ((4, 8, 15, 8), (LARGEST + 1,)):
        one, again, other = (exponential(shape, generator((seed,), CPU)) for seed in (1, 1, 2))
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
        assert float(one.min()) > 0
        assert float(one.mean()) == pytest.approx(1, abs=0.06)
        assert float(one.std()) == pytest.approx(1, abs=0.1)


def test_an_observation_must_be_a_vector_that_exists() -> None:
    spec = EpisodeSpec.build({"image": ((8, 8, 3), "uint8"), "qpos": ((2,), "float32")}, 1)
    with pytest.raises(BadInput, match=r"state.*qpos"):
        points.config().build(spec)
