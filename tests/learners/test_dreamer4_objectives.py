"""The objectives of Dreamer 4 on moving squares: each learns, draws by key alone, and moves only what is its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import squares
import torch
from torch import Tensor

from learners.dreamer4.open_loop import open_loop
from learners.dreamer4.segments import LatentStore, Segments
from learners.dreamer4.system import Dreamer4
from learners.dreamer4.train_dynamics import split_images, world_loss
from learners.learner import Learner, LearnerConfig
from learners.maths import symlog, two_hot

BUDGETS = {"tokenizer": 200, "dynamics": 200, "agent": 100}
SLICE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    curves: Mapping[str, list[dict[str, float]]]  # by objective, one entry a slice
    gates: Mapping[str, dict[str, float]]
    directory: Path  # of the state after the agent stage


def new_learner() -> Learner:
    return Learner(LearnerConfig(), squares.config(), squares.SPEC, squares.source, seed=0)


def loaded(directory: Path) -> tuple[Learner, Dreamer4]:
    learner = new_learner()
    learner.load(directory)
    assert isinstance(learner.system, Dreamer4)
    return learner, learner.system


def train(learner: Learner, stage: str, objective: str, updates: int) -> list[dict[str, float]]:
    learner.begin(stage, objective, updates)
    return [learner.update(min(SLICE, updates)) for _ in range(max(1, updates // SLICE))]


def state(system: Dreamer4, *prefixes: str) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in system.state_dict().items() if name.startswith(prefixes)}


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[name]) for name, t in one.items())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    learner, directory = new_learner(), tmp_path_factory.mktemp("trained") / "learner"
    curves, gates = {}, {}
    for name, updates in BUDGETS.items():
        curves[name] = train(learner, name, name, updates)
        gates[name] = learner.gate()
        learner.finish()
    learner.save(directory)
    learner.close()
    return Trained(curves=curves, gates=gates, directory=directory)


@pytest.mark.parametrize(
    ("objective", "figure", "share"),
    [("tokenizer", "mse", 0.5), ("dynamics", "flow", 0.6), ("agent", "policy", 0.95), ("agent", "reward", 0.9)],
)
def test_errors_fall(trained: Trained, objective: str, figure: str, share: float) -> None:
    curve = [entry[figure] for entry in trained.curves[objective]]
    assert np.isfinite(curve).all()
    assert curve[-1] < share * curve[0]


def test_gates_report_what_recipes_ask_for(trained: Trained) -> None:
    """Thresholds of configs/dreamer4.yaml are on these names; nothing here is well enough trained to pass them."""
    assert {"psnr", "psnr_foreground", "probe_r2", "probe_r2_worst"} <= trained.gates["tokenizer"].keys()
    assert {"gain_h4", "gain_h8", "action_use_h4", "action_use_h8", "psnr_h1"} <= trained.gates["dynamics"].keys()
    assert {"policy_nats", "reward_mae", "reward_r2"} <= trained.gates["agent"].keys()
    assert trained.gates["tokenizer"]["psnr"] > 20
    assert all(np.isfinite(v) for gate in trained.gates.values() for v in gate.values())


@pytest.mark.parametrize("objective", ["tokenizer", "dynamics", "agent", "imagination", "control"])
def test_batches_are_functions_of_the_key(trained: Trained, objective: str) -> None:
    learner, system = loaded(trained.directory)
    work = system.objective(objective)
    work.prepare(learner.source)
    one, same, other = (work.batch(learner.source, key, 0.5) for key in [(0, 1), (0, 1), (0, 2)])
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_lengths_alternate_and_end_long(trained: Trained) -> None:
    """Short batches, a share of long ones of as many frames, and long ones alone towards the end."""
    learner, system = loaded(trained.directory)
    work = system.objective("dynamics")
    work.prepare(learner.source)
    shapes = [tuple(work.batch(learner.source, (step,), 0.5).z.shape[:2]) for step in range(200)]
    assert set(shapes) == {(8, 8), (4, 16)}
    assert 0.04 < shapes.count((4, 16)) / 200 < 0.18  # long_share is 0.1
    ends = {tuple(work.batch(learner.source, (step,), 0.95).z.shape[:2]) for step in range(20)}
    assert ends == {(4, 16)}


def segments(batch: int = 10, length: int = 5) -> Segments:
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    labelled = torch.ones(batch, length, dtype=torch.bool)
    return Segments(draw(batch, length, 4, 4), draw(batch, length, 2), labelled, draw(batch, length), 0.5)


def test_images_are_cut_from_the_first_sequences() -> None:
    whole = segments()
    videos, images = split_images(whole, 0.3)
    assert images is not None
    assert images.z.shape == (3 * 5, 1, 4, 4)
    assert torch.equal(images.z[:, 0], whole.z[:3].flatten(0, 1))
    assert not images.labelled.any()  # an image has no action
    assert torch.equal(videos.z, whole.z[3:])
    assert videos.labelled.all()


def test_no_images_and_never_images_alone() -> None:
    videos, images = split_images(segments(), 0.0)
    assert images is None
    assert len(videos.z) == 10
    videos, images = split_images(segments(), 1.0)
    assert len(videos.z) == 1
    assert split_images(segments(batch=1), 0.3)[1] is None


def test_the_action_of_an_unlabelled_frame_changes_nothing(trained: Trained) -> None:
    _, system = loaded(trained.directory)
    world, work = system.dynamics, squares.config().dynamics
    batch = segments()
    batch.labelled[:, 2] = False
    unseen, seen = batch.action.clone(), batch.action.clone()
    unseen[:, 2] += 1
    seen[:, 3] += 1
    losses = [
        world_loss(work, world, batch._replace(action=action), torch.Generator().manual_seed(1))[0]
        for action in (batch.action, unseen, seen)
    ]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_a_share_of_the_video_is_treated_as_unlabelled(trained: Trained) -> None:
    _, system = loaded(trained.directory)
    hidden = replace(squares.config().dynamics, video_share=1.0)
    one, other = segments(), segments()._replace(action=torch.zeros(10, 5, 2))
    losses = [world_loss(hidden, system.dynamics, b, torch.Generator().manual_seed(1))[0] for b in (one, other)]
    assert torch.equal(*losses)


@pytest.mark.parametrize(("objective", "name"), [("imagination", "policy"), ("control", "control")])
def test_imagination_moves_only_its_actor(trained: Trained, objective: str, name: str) -> None:
    learner, system = loaded(trained.directory)
    frozen = ("tokenizer.", "dynamics.", "heads.", f"actors.{'control' if name == 'policy' else 'policy'}.")
    before = state(system, *frozen)
    learner.begin(objective, objective, 5)
    start = state(system, f"actors.{name}.")
    figures = learner.update(5)
    learner.finish()
    assert equal(before, state(system, *frozen))
    after = state(system, f"actors.{name}.")
    moved = {
        part for part in ("policy", "value") for k, v in after.items() if part in k and not torch.equal(v, start[k])
    }
    assert moved == {"policy", "value"}
    assert figures["kl_prior"] > 0


def test_the_value_learns_and_the_policy_leaves_the_prior_slowly(trained: Trained) -> None:
    learner, _ = loaded(trained.directory)
    curve = train(learner, "imagination", "imagination", 60)
    learner.close()
    assert curve[-1]["value"] < 0.8 * curve[0]["value"]
    assert 0 < curve[-1]["kl_prior"] < 1


def test_shuffled_advantages_lead_elsewhere(trained: Trained) -> None:
    """The same dreams, values and number of good decisions; other decisions are called good."""
    learner, system = loaded(trained.directory)
    gradients, good = [], []
    for name in ("imagination", "control"):
        work = system.objective(name)
        work.prepare(learner.source)
        actor = work.trained().requires_grad_(True)
        with torch.no_grad():  # a value in the middle of the returns
            actor.value.out.bias.copy_(20 * two_hot(symlog(torch.tensor(0.85)), actor.value.bins))
        figures = work.loss(work.batch(learner.source, (0,), 0.5), torch.Generator().manual_seed(0))[1]
        gradients.append(torch.autograd.grad(figures["policy"], actor.policy.out.weight)[0])
        good.append(figures["good_share"])
    assert good[0] == good[1]
    assert 0.1 < good[0] < 0.9
    assert not torch.allclose(*gradients)


def test_a_resumed_stage_keeps_its_policy(trained: Trained, tmp_path: Path) -> None:
    learner, system = loaded(trained.directory)
    learner.begin("imagination", "imagination", 10)
    assert torch.equal(system.actors["policy"].policy.out.weight, system.heads.policy.out.weight[:6])
    learner.update(5)
    learner.save(tmp_path / "middle")
    learner.close()
    resumed, other = loaded(tmp_path / "middle")  # prepares the stage again
    resumed.close()
    assert bool(other.actors["policy"].started)
    assert equal(state(system, "actors."), state(other, "actors."))
    assert not torch.equal(other.actors["policy"].policy.out.weight, other.heads.policy.out.weight[:6])


def test_the_next_round_starts_from_its_own_prior(trained: Trained) -> None:
    learner, system = loaded(trained.directory)
    train(learner, "imagination", "imagination", 5)
    train(learner, "agent@1", "agent", 5)
    learner.begin("imagination@1", "imagination", 5)
    learner.close()
    assert torch.equal(system.actors["policy"].policy.out.weight, system.heads.policy.out.weight[:6])


def test_video_is_encoded_once_and_again_by_a_new_tokenizer(trained: Trained) -> None:
    learner, system = loaded(trained.directory)
    store = LatentStore(system.tokenizer)
    store.update(learner.source)
    key = learner.source.episodes("train")[0]
    first = store.episode(key)
    store.update(learner.source)
    assert store.episode(key) is first
    with torch.no_grad():
        system.tokenizer.bottleneck.weight.mul_(0.5)
    store.update(learner.source)
    assert not torch.equal(store.episode(key), first)


@pytest.mark.slow
def test_eight_episodes_can_be_overfitted_and_their_actions_matter(tmp_path: Path) -> None:
    """Open loop on the episodes it was trained on: with the actions of other episodes the error is far larger."""
    source = partial(squares.source, episodes=8, valid_share=0.0)
    config = squares.config(dim=64)
    learner = Learner(LearnerConfig(), config, squares.SPEC, source, seed=0)
    system = learner.system
    assert isinstance(system, Dreamer4)
    for name, updates in {"tokenizer": 1000, "dynamics": 2500}.items():
        learner.begin(name, name, updates)
        learner.update(updates)
        learner.finish()
    system.eval()
    same = squares.source(episodes=8, valid_share=1.0)
    store = LatentStore(system.tokenizer)
    store.update(same)
    figures = open_loop(config.dynamics.open_loop, system.dynamics, store, same).metrics()
    for horizon in (4, 8):
        assert figures[f"action_use_h{horizon}"] >= 1.3
        assert figures[f"gain_h{horizon}"] > 1
