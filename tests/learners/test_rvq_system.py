"""The system: it trains in a stage, compares in another, resumes in the same bits, and hands out codecs and files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import picking
import pytest
import torch
from rvq_kit import config, quick

from learners.learner import Learner, LearnerConfig
from learners.rvq.analyse import find
from learners.rvq.bands import BandTokenizer
from learners.rvq.chunks import of_episodes
from learners.rvq.heldout import half_ranges
from learners.rvq.notes import BYTES, Notes
from learners.rvq.system import RVQ, RVQConfig
from learners.rvq.tokenizer import RVQTokenizer
from learners.system import Merging, config_class
from replay.errors import BadInput
from replay.schema import EpisodeSpec
from replay.sources.memory import MemorySource


def source() -> MemorySource:
    return picking.source(16)


def learner(settings: RVQConfig | None = None) -> Learner:
    return Learner(LearnerConfig(), settings or quick(), picking.SPEC, source, seed=0)


def system(trained: Learner) -> RVQ:
    assert isinstance(trained.system, RVQ)
    return trained.system


@pytest.fixture(scope="module")
def trained() -> Learner:
    """Both stages behind it."""
    found = learner()
    found.begin("fit", "rvq", 80)
    first, last = found.update(10), [found.update(10) for _ in range(7)][-1]
    assert last["reconstruction"] < 0.7 * first["reconstruction"]
    found.finish()
    found.begin("compare", "analyse", 1)
    found.update(1)
    return found


def test_it_is_registered() -> None:
    assert config_class("rvq") is RVQConfig
    objective = quick().build(picking.SPEC).objective("rvq")
    assert isinstance(objective, Merging)


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    straight = learner()
    straight.begin("fit", "rvq", 10)
    straight.update(10)
    first = learner()
    first.begin("fit", "rvq", 10)
    first.update(4)
    first.save(tmp_path / "saved")
    first.close()
    second = learner()
    second.load(tmp_path / "saved")
    second.update(6)
    state = straight.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in second.network.state_dict().items())
    straight.close()
    second.close()


def test_gates_are_held_out_figures_by_layer() -> None:
    found = learner()
    found.begin("fit", "rvq", 20)
    found.update(20)
    gate = found.gate()
    held = {f"{name}_l{layer}" for name in ("mse", "raw_mse", "usage", "perplexity") for layer in (1, 2, 3)}
    assert held <= gate.keys()
    assert gate["mse_l3"] < gate["mse_l1"]
    assert 0 < gate["usage_l1"] <= 1 <= gate["perplexity_l1"] <= 32
    shown = found.exhibits()
    assert shown["rvq_layers"]["mse_norm"][0] == pytest.approx(gate["mse_l1"])
    assert shown["rvq_examples"]["reconstructed"].shape == (3, *shown["rvq_examples"]["original"].shape)
    assert shown["rvq_usage"]["counts"].shape == (3, 32)
    found.close()


def test_raw_errors_are_those_of_the_actions_as_they_were() -> None:
    """Of a gripper of any size: also what normalising it leaves out, for what is learnt and for all peers."""
    chunks = of_episodes([picking.actions(seed) for seed in range(14)], 10, 5)
    rng = np.random.default_rng(0)
    chunks.actions[..., 6] *= rng.uniform(0.3, 1.0, chunks.actions.shape[:2])
    system = quick().build(picking.SPEC)
    system.tokenizer.fit(chunks, updates=5)
    system.bands.fit(chunks)
    found = find(system.config.analyse, system.tokenizer, system.bands, chunks, chunks)
    for tokenizer, layers in ((system.tokenizer, found.rvq), (system.bands, found.bands)):
        square = np.square(tokenizer.decode(tokenizer.encode(chunks.actions)).numpy() - chunks.actions)
        assert layers.errors[-1].raw.mean() == pytest.approx(square.mean(), rel=1e-4)
        width = half_ranges(tokenizer.normalizer)[6]
        assert layers.errors[-1].gripper.mean() == pytest.approx(square[..., 6].mean() / width**2, rel=1e-4)
    assert all(points["mse_gripper"].min() > 0.04 for points in found.curves.values())


def test_the_comparing_stage_leaves_weights_alone(trained: Learner) -> None:
    before = {n: t.clone() for n, t in trained.network.state_dict().items()}
    trained.begin("compare again", "analyse", 2)
    trained.update(2)
    assert all(torch.equal(t, before[n]) for n, t in trained.network.state_dict().items())


def test_the_comparing_stage_compares(trained: Learner) -> None:
    gate = trained.gate()
    for bits in (20, 30):
        assert gate[f"bands_b{bits}"] > 0
    assert gate["coarse_low"] <= gate["coarse_mean"] <= gate["coarse_high"]
    assert gate["coarse_verdict"] in (-1, 0, 1)
    shown = trained.exhibits()
    assert {"rate_distortion", "rvq_layers", "bands_layers", "hypotheses", "layers_by_phase"} <= shown.keys()
    table = shown["rate_distortion"]
    for method in ("rvq", "bands", "dct6", "dct8", "dct32", "fast", "fast_apart", "steps"):
        assert table[f"{method}_bits"].shape == table[f"{method}_mse_norm"].shape
    assert shown["layers_by_phase"]["counts"].sum() == gate["chunks"]
    assert all(array.dtype != object for arrays in shown.values() for array in arrays.values())


def test_codecs_are_what_is_left_in_environment_units(trained: Learner) -> None:
    own = system(trained)
    chunks = np.stack([picking.actions(50)[t : t + 10] for t in range(0, 40, 5)])
    errors = {name: np.square(own.codec(name)(chunks) - chunks).mean() for name in own.codecs}
    assert list(errors) == ["layers1", "layers2", "layers3", *(f"bands{n}" for n in range(1, 8))]
    assert errors["layers3"] < errors["layers1"]
    assert errors["bands7"] < errors["bands3"] < errors["bands1"]
    assert own.codec("bands7")(chunks).dtype == np.float32
    assert set(np.unique(own.codec("bands2")(chunks)[..., 6])) <= {-1.0, 1.0}
    for wrong in ("layers0", "layers4", "bands8", "layers", "fast"):
        with pytest.raises(KeyError, match="layers1 to layers3 and bands1 to bands7"):
            own.codec(wrong)
    with pytest.raises(KeyError, match="no agent"):
        own.agent("policy")
    with pytest.raises(KeyError, match="rvq"):
        own.objective("nothing")


def test_weights_carry_everything_that_is_exported(trained: Learner, tmp_path: Path) -> None:
    fresh = quick().build(picking.SPEC)
    trained.weights().apply(fresh)
    fresh.export(tmp_path / "exported", {"mse_l1": 0.5})
    learnt = RVQTokenizer.load(tmp_path / "exported")
    bands = BandTokenizer.load(tmp_path / "exported-bands")
    chunks = picking.actions(51)[None, :10]
    assert np.array_equal(system(trained).codec("layers2")(chunks), learnt.decode(learnt.encode(chunks, 2)).numpy())
    assert np.array_equal(system(trained).codec("bands4")(chunks), bands.decode(bands.encode(chunks, 4)).numpy())
    assert learnt.figures == {"mse_l1": 0.5}
    assert learnt.card["sources"] == {"scripted": len(source().episodes("train"))}
    assert learnt.card["actions"].startswith("windows")
    assert bands.card == learnt.card


def test_bands_are_fitted_again_to_new_chunks_and_their_card_says_to_which(tmp_path: Path) -> None:
    """Training reads the new chunks first; until they are compared, the bands are those of the old ones."""
    own, (old, new) = quick().build(picking.SPEC), (picking.source(count) for count in (10, 16))
    learn, compare = own.objective("rvq"), own.objective("analyse")
    hashes, books = [], []
    for objective, read in ((learn, old), (compare, old), (learn, new), (compare, new), (compare, new)):
        objective.prepare(read)
        own.export(tmp_path / "saved", {}, "whose")
        learnt, bands = (tmp_path / name / "metrics.json" for name in ("saved", "saved-bands"))
        cards = [json.loads(path.read_text())["data"] if path.exists() else {} for path in (learnt, bands)]
        hashes.append([card.get("data_hash") for card in cards])
        books.append(own.bands.codebooks.clone())
    (first, _), (second, _) = hashes[0], hashes[2]
    assert first != second
    assert hashes == [[first, None], [first, first], [second, first], [second, second], [second, second]]
    fresh = quick().build(picking.SPEC)
    fresh.objective("analyse").prepare(new)
    assert [torch.equal(each, fresh.bands.codebooks) for each in books] == [False, False, False, True, True]


def test_predicted_chunks_are_trained_on_where_there_are_any() -> None:
    found = Learner(LearnerConfig(), quick(), picking.PLAN_SPEC, lambda: picking.source(10, plans=True), seed=0)
    found.begin("fit", "rvq", 2)
    found.update(2)
    assert system(found).notes.read()["actions"].startswith("predicted")
    found.close()


def test_actions_of_another_width_are_told() -> None:
    with pytest.raises(BadInput, match=r"tokenizer\.action_dim=4"):
        config().build(EpisodeSpec.build({}, 4))
    with pytest.raises(BadInput, match=r"tokenizer\.chunk_size=10"):
        config(chunk_size=12).build(picking.PLAN_SPEC)


def test_other_shapes_have_a_system_too() -> None:
    small = replace(quick(), tokenizer=replace(quick().tokenizer, action_dim=7, chunk_size=4, gripper=None))
    found = Learner(LearnerConfig(), small, picking.SPEC, source, seed=0)
    found.begin("fit", "rvq", 2)
    found.update(2)
    found.finish()
    found.begin("compare", "analyse", 1)
    found.update(1)
    assert "layers_by_phase" not in found.exhibits()
    assert "mse_l1" in found.gate()
    found.close()


def test_notes_travel_as_bytes() -> None:
    one, other = Notes(), Notes()
    assert one.read() == {}
    one.write({"sources": {"scripted": 3}})
    other.load_state_dict(one.state_dict())
    assert other.read() == {"sources": {"scripted": 3}}
    one.write({"long": "x" * BYTES})
    assert "too many" in one.read()["note"]
