"""The learner on a system that can be checked by hand."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import OPTIM, SPEC, ToyConfig, source, train_and_wait

from learners import checkpoint
from learners.learner import Learner, LearnerConfig
from replay.errors import BadInput, TrainingFailed, TryAgain


def toy(config: ToyConfig | None = None, seed: int = 7, **settings: object) -> Learner:
    return Learner(LearnerConfig(**settings), config or ToyConfig(), SPEC, source, seed)


def begun(updates: int, config: ToyConfig | None = None, **settings: object) -> Learner:
    learner = toy(config, **settings)
    learner.begin("fit", "fit", updates)
    return learner


def state(learner: Learner, directory: Path) -> dict[str, torch.Tensor]:
    """Everything that is saved, by file and name."""
    learner.save(directory)
    saved = checkpoint.load(directory)
    return {f"{group}:{name}": x.clone() for group, tensors in saved.tensors.items() for name, x in tensors.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_learns_what_is_there() -> None:
    learner = begun(300)
    first = learner.update(10)
    learner.update(280)
    last = learner.update(10)
    assert last["error"] < 0.1 * first["error"]
    assert learner.gate()["error"] < 0.1
    assert {"loss", "grad_norm", "lr", "updates_per_s", "data_wait", "skipped"} <= last.keys()
    assert 0 <= last["data_wait"] <= 1
    assert last["skipped"] == 0
    assert last["lr"] < first["lr"]


def test_trains_only_its_part() -> None:
    learner = begun(5)
    other = learner.system.other.weight.clone()
    trained = {n for n, p in learner.network.named_parameters() if p.requires_grad}
    learner.update(5)
    assert trained == {n for n, _ in learner.network.named_parameters() if n.startswith("fit.")}
    assert torch.equal(learner.system.other.weight, other)
    learner.finish()
    assert not any(p.requires_grad for p in learner.network.parameters())


def test_gate_sees_averaged_weights_and_leaves_no_trace() -> None:
    learner = begun(20)
    learner.update(20)
    live = learner.system.fit[0].weight.clone()
    average = learner._run.ema.average["0.weight"].clone()
    figures = learner.gate()
    assert figures["training"] == 0
    assert torch.equal(learner.system.fit[0].weight, live)
    learner.finish()
    assert torch.equal(learner.system.fit[0].weight, average)
    assert not torch.equal(live, average)
    assert learner.gate()["error"] == figures["error"]
    assert np.array_equal(learner.exhibits()["line"]["weight"], average.numpy())


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_prefetching_and_slicing_change_nothing(tmp_path: Path, optimiser: str) -> None:
    config = ToyConfig(optim=replace(OPTIM, name=optimiser))
    whole, sliced = begun(24, config, prefetch=0), begun(24, config, prefetch=5)
    whole.update(24)
    for count in (1, 7, 16):
        sliced.update(count)
        sliced.gate()
    assert same(state(whole, tmp_path / "a"), state(sliced, tmp_path / "b"))


def test_seed_and_stage_fix_the_draws(tmp_path: Path) -> None:
    def after(seed: int, stage: str) -> dict[str, torch.Tensor]:
        learner = toy(seed=seed)
        learner.begin(stage, "fit", 10)
        learner.update(4)
        return state(learner, tmp_path / "x")

    assert same(after(1, "a"), after(1, "a"))
    assert not same(after(1, "a"), after(1, "b"))
    assert not same(after(1, "a"), after(2, "a"))


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_resume_in_one_process_is_bit_exact(tmp_path: Path, optimiser: str) -> None:
    config = ToyConfig(optim=replace(OPTIM, name=optimiser))
    whole, first, second = begun(40, config), begun(40, config), toy(config)
    whole.update(40)
    first.update(20)
    first.save(tmp_path / "half")
    second.load(tmp_path / "half")
    second.update(20)
    assert same(state(whole, tmp_path / "a"), state(second, tmp_path / "b"))
    assert second.version == whole.version


def test_resume_after_kill_is_bit_exact(tmp_path: Path) -> None:
    """2 N updates against N, a checkpoint, some lost ones, kill -9, and N in another process."""
    updates = 25
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=train_and_wait, args=(tmp_path / "half", updates))
    child.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "saved").exists():
        assert child.is_alive(), "the child ended before it had saved"
        assert time.monotonic() < deadline, "the child has saved nothing within 60 s"
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.join(10)

    whole, resumed = begun(2 * updates), toy()
    whole.update(2 * updates)
    resumed.load(tmp_path / "half")
    resumed.update(updates)
    assert same(state(whole, tmp_path / "a"), state(resumed, tmp_path / "b"))


def test_a_finished_stage_is_saved_and_loaded(tmp_path: Path) -> None:
    learner, other = begun(5), toy(seed=8)
    learner.update(5)
    learner.finish()
    learner.save(tmp_path / "c")
    other.load(tmp_path / "c")
    assert same(state(learner, tmp_path / "a"), state(other, tmp_path / "b"))
    with pytest.raises(RuntimeError, match="no stage"):
        other.update(1)
    other.begin("again", "fit", 5)
    other.update(5)


def test_steps_that_are_not_finite_are_skipped() -> None:
    learner = begun(20, ToyConfig(nan_from=0.2, nan_until=0.4))
    figures = learner.update(20)
    assert figures["skipped"] == 4
    assert math.isfinite(figures["loss"])
    assert all(torch.isfinite(x).all() for x in learner.network.state_dict().values())


def test_a_slice_of_skips_leaves_the_weights_alone(tmp_path: Path) -> None:
    learner = begun(20, ToyConfig(nan_from=0.5, nan_until=1.0))
    learner.update(10)
    before = learner.system.fit[0].weight.clone()
    figures = learner.update(10)
    assert figures["skipped"] == 10
    assert math.isnan(figures["loss"])
    assert torch.equal(learner.system.fit[0].weight, before)


def test_the_budget_of_skips_ends_training() -> None:
    learner = begun(40, ToyConfig(nan_from=0.25, nan_until=1.0), max_skips=5)
    with pytest.raises(TrainingFailed, match="up to update 16 of stage fit"):
        learner.update(40)


def test_skips_in_a_row_survive_a_resume(tmp_path: Path) -> None:
    config = ToyConfig(nan_from=0.25, nan_until=1.0)
    learner, other = begun(40, config, max_skips=5), toy(config, max_skips=5)
    learner.update(14)
    learner.save(tmp_path / "c")
    other.load(tmp_path / "c")
    other.update(1)
    with pytest.raises(TrainingFailed):
        other.update(1)


def test_a_batch_that_never_comes_is_told() -> None:
    learner = begun(10, ToyConfig(hang_from=0.5), stall_timeout_s=0.2)
    with pytest.raises(TryAgain, match=r"No training batch came within 0\.2 s"):
        learner.update(10)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    begun(5).save(tmp_path / "c")
    with pytest.raises(BadInput, match="another configuration"):
        toy(ToyConfig(batch_size=8)).load(tmp_path / "c")


def test_more_updates_than_the_stage_has_are_refused() -> None:
    with pytest.raises(ValueError, match="more than"):
        begun(5).update(6)


def test_bf16_and_many_threads_are_settings() -> None:
    learner = begun(30, precision="bf16")
    first = learner.update(5)["error"]
    learner.update(20)
    assert learner.update(5)["error"] < first
    assert learner.system.fit[0].weight.dtype == torch.float32


def test_bad_settings() -> None:
    with pytest.raises(BadInput):
        LearnerConfig(group=0)
    with pytest.raises(BadInput):
        toy(device="gpu3")


@pytest.mark.slow
def test_compiled_loss_is_the_same_loss() -> None:
    """Also its gradient: a compiled backward pass may recompute what the forward pass has changed in place."""
    plain, compiled = (begun(6, ToyConfig(rms=False), compile=c) for c in (False, True))
    for _ in range(3):
        a, b = plain.update(2), compiled.update(2)
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_a_refresh_draws_the_coming_batches_anew() -> None:
    """Batches made ahead are dropped, but the updates that they were made for are not: nothing else changes."""
    plain, refreshed = begun(20), begun(20)
    for _ in range(4):
        plain.update(5)
        refreshed.update(5)
        if refreshed._running().progress.step < 20:
            refreshed.refresh()
    for a, b in zip(plain.weights().arrays.values(), refreshed.weights().arrays.values(), strict=True):
        assert np.array_equal(a, b)
    assert plain.drawn == refreshed.drawn
