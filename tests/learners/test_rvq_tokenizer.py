"""The tokenizers: actions in environment units and back, any codes and any prefix, files that are whole or refused."""

from __future__ import annotations

import doctest
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import picking
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct as scipy_dct

import learners.rvq.tokenizer
from learners.rvq import transform
from learners.rvq.bandbooks import fit_books
from learners.rvq.bands import BandsConfig, BandTokenizer
from learners.rvq.beam import search
from learners.rvq.chunks import Chunks, ChunksConfig, digest, load, of_episodes
from learners.rvq.fitting import TrainConfig
from learners.rvq.kmeans import nearest
from learners.rvq.normalizer import Normalizer
from learners.rvq.patterns import nearest_pattern, table
from learners.rvq.tokenizer import RVQTokenizer
from replay.errors import BadInput

Any = RVQTokenizer | BandTokenizer
KINDS = ["rvq", "bands"]


@pytest.fixture(scope="module")
def chunks() -> Chunks:
    return of_episodes([picking.actions(seed) for seed in range(12)], 10, 5, "scripted")


@pytest.fixture(scope="module")
def fitted(chunks: Chunks) -> dict[str, Any]:
    return {"rvq": rvq().fit(chunks, updates=120, train=TrainConfig(batch_size=32)), "bands": bands().fit(chunks)}


def rvq(**settings: int) -> RVQTokenizer:
    torch.manual_seed(0)
    return RVQTokenizer(**{"num_layers": 3, "hidden_dim": 16, "num_embeddings": 32, **settings})  # type: ignore[arg-type]


def bands(**sizes: int | None) -> BandTokenizer:
    config = BandsConfig(tokens=6, num_embeddings=32, widths=(4, 8), gripper_patterns=16)
    return BandTokenizer(**sizes, config=config)  # type: ignore[arg-type]


def test_the_documents_arguments_and_defaults() -> None:
    tokenizer = RVQTokenizer()
    config = tokenizer.config
    assert (config.action_dim, config.chunk_size, config.num_layers) == (7, 10, 8)
    assert (config.hidden_dim, config.num_embeddings, config.commitment_cost) == (64, 256, 0.25)
    assert [tokenizer.bits_per_chunk(layers) for layers in (1, 2, 8)] == [80, 160, 640]
    assert tokenizer.bits_per_chunk() == 640
    assert tokenizer.vocab_size == 256
    assert RVQTokenizer(num_embeddings=300).bits_per_chunk(1) == 90  # whole bits
    full = BandTokenizer()
    assert [full.bits_per_chunk(tokens) for tokens in (1, 2, 20, 33)] == [10, 18, 162, 266]
    assert BandTokenizer(action_dim=6, gripper=None).bits_per_chunk(1) == 8


def test_the_documented_example_runs() -> None:
    found = doctest.testmod(learners.rvq.tokenizer, extraglobs={"torch": torch})
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("kind", KINDS)
def test_more_layers_are_nearer(kind: str, fitted: dict[str, Any]) -> None:
    tokenizer = fitted[kind]
    fresh = of_episodes([picking.actions(seed) for seed in range(100, 104)], 10, 5).actions
    codes = tokenizer.encode(fresh)
    assert codes.shape == (len(fresh), 10 if kind == "rvq" else 1, tokenizer.num_layers)
    assert codes.dtype == torch.int64
    truth = tokenizer.normalise(fresh)
    errors = [
        float((tokenizer.reconstruct(codes, n) - truth).square().mean()) for n in range(1, tokenizer.num_layers + 1)
    ]
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 0.15
    for number in range(1, tokenizer.num_layers + 1):
        prefix = codes[..., :number]
        assert torch.equal(tokenizer.decode(prefix), tokenizer.decode(codes, number))
        alone = tokenizer.encode(fresh, number)
        if kind == "rvq":
            assert torch.equal(alone, prefix)
        else:  # the search of bands looks ahead, so asked for fewer it finds nearer ones
            error = float((tokenizer.reconstruct(alone) - truth).square().mean())
            assert error <= errors[number - 1] + 1e-6
    torch.testing.assert_close(tokenizer.normalizer.inverse(tokenizer.reconstruct(codes)), tokenizer.decode(codes))


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
@settings(max_examples=20, deadline=None)
def test_any_codes_decode(kind: str, fitted: dict[str, Any], data: st.DataObject) -> None:
    tokenizer = fitted[kind]
    rows, layers = data.draw(st.integers(0, 5)), data.draw(st.integers(1, tokenizer.num_layers))
    draws = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    codes = torch.from_numpy(draws.integers(tokenizer.vocab_size, size=(rows, 10 if kind == "rvq" else 1, layers)))
    found = tokenizer.decode(codes)
    assert found.shape == (rows, 10, 7)
    assert bool(found.isfinite().all())
    shorter = data.draw(st.integers(1, layers))
    assert torch.equal(tokenizer.decode(codes, shorter), tokenizer.decode(codes[..., :shorter]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_chunk_and_no_code_is_told(kind: str, fitted: dict[str, Any]) -> None:
    tokenizer = fitted[kind]
    codes = tokenizer.encode(np.zeros((2, 10, 7), np.float32))
    for wrong in (np.zeros((2, 9, 7)), np.zeros((10, 7)), np.zeros((2, 10, 6))):
        with pytest.raises(BadInput, match="are not"):
            tokenizer.encode(wrong)
    for bad in (codes - 1000, codes + tokenizer.vocab_size, codes[0], codes[..., :0]):
        with pytest.raises(BadInput):
            tokenizer.decode(bad)
    for layers in (0, tokenizer.num_layers + 1):
        with pytest.raises(BadInput, match="There are no"):
            tokenizer.encode(np.zeros((1, 10, 7)), layers)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_is_loaded_bit_by_bit(kind: str, fitted: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = fitted[kind]
    for _ in range(2):  # the second time it is replaced
        tokenizer.save(tmp_path / "saved", {"mse_l1": 0.25})
    again = type(tokenizer).load(tmp_path / "saved")
    state = tokenizer.state_dict()
    assert state.keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    assert again.figures == {"mse_l1": 0.25}
    assert again.card["sources"] == {"scripted": 12}
    assert again.card["episodes"] == 12
    assert len(again.card["data_hash"]) == 16
    x = picking.actions(7)[None, :10]
    assert torch.equal(again.decode(again.encode(x)), tokenizer.decode(tokenizer.encode(x)))
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"config.json", "model.safetensors", "normalizer.json", "metrics.json"}
    assert not list(tmp_path.glob(".*"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def edit(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        head = json.loads(path.read_text())
        head["config"].update({k: v for k, v in changes.items() if k in head["config"] or k == "strange"})
        head.update({k: v for k, v in changes.items() if k in ("kind", "schema", "sha256")})
        path.write_text(json.dumps(head))

    return change


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    *((name, cut, "damaged") for name in ("config.json", "model.safetensors", "normalizer.json", "metrics.json")),
    *((name, flip, "damaged") for name in ("model.safetensors", "normalizer.json", "metrics.json")),
    *((name, Path.unlink, "damaged") for name in ("model.safetensors", "normalizer.json", "metrics.json")),
    ("config.json", Path.unlink, "no tokenizer"),
    ("config.json", lambda path: path.write_text("[]"), "damaged"),
    ("config.json", lambda path: path.write_bytes(b"\xff\xfe\x00"), "tokenizer"),
    ("config.json", edit(num_embeddings=10**12), "damaged"),
    ("config.json", edit(num_embeddings=-1), "damaged"),
    ("config.json", edit(num_embeddings="many"), "damaged"),
    ("config.json", edit(action_dim=3), "damaged"),
    ("config.json", edit(strange=3), "damaged"),
    ("config.json", edit(sha256={}), "damaged"),
    ("config.json", edit(schema=99), "Update distwm"),
    ("config.json", edit(kind="spline"), "kind 'spline'"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_and_foreign_files_are_told(kind: str, fitted: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = fitted[kind]
    tokenizer.save(tmp_path / "whole")
    for number, (name, harm, message) in enumerate(DAMAGES):
        directory = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", directory)
        harm(directory / name)
        with pytest.raises(BadInput, match=message):
            type(tokenizer).load(directory)
    with pytest.raises(BadInput, match="kind"):
        (RVQTokenizer if kind == "bands" else BandTokenizer).load(tmp_path / "whole")
    with pytest.raises(BadInput, match="no tokenizer"):
        type(tokenizer).load(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", KINDS)
def test_fits_are_functions_of_data_and_seed(kind: str, chunks: Chunks) -> None:
    def fit(seed: int) -> dict[str, torch.Tensor]:
        if kind == "bands":
            return bands().fit(chunks, seed=seed).state_dict()
        return rvq().fit(chunks, updates=3, seed=seed).state_dict()

    one, again, other = fit(0), fit(0), fit(1)
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_without_a_gripper_all_dimensions_are_the_arms() -> None:
    actions = of_episodes([picking.actions(seed)[:, :6] for seed in range(6)], 10, 5)
    plain = bands(action_dim=6, gripper=None).fit(actions)
    codes = plain.encode(actions.actions)
    assert codes.shape[2] == plain.num_layers == 6
    error = plain.decode(codes) - torch.from_numpy(actions.actions)
    assert float(error.square().mean()) < 0.2 * float(actions.actions.var())
    learnt = RVQTokenizer(6, num_layers=2, num_embeddings=16, gripper=None).fit(actions, updates=2)
    assert learnt.decode(learnt.encode(actions.actions)).shape == actions.actions.shape


def test_a_gripper_that_is_coded_apart_is_exact(chunks: Chunks, fitted: dict[str, Any]) -> None:
    """Every pattern of the data has a code, so one token brings all of it back, in environment units; with a code for
    each pattern that there is, also of chunks that nobody has seen."""
    tokenizer = fitted["bands"]
    patterns = len({tuple(row) for row in chunks.actions[..., 6].tolist()})
    exact = (tokenizer.decode(tokenizer.encode(chunks.actions, 1))[..., 6].numpy() == chunks.actions[..., 6]).all(1)
    assert exact.mean() > 0.9
    assert exact.all() or patterns > 16
    whole = BandTokenizer(config=BandsConfig(tokens=1, num_embeddings=2)).fit(chunks)
    fluttering = np.array(chunks.actions[:50])
    fluttering[..., 6] = np.random.default_rng(0).choice([-1.0, 1.0], (50, 10))
    assert (whole.decode(whole.encode(fluttering, 1))[..., 6].numpy() == fluttering[..., 6]).all()


def test_patterns_are_the_most_frequent_then_the_simplest_and_nearest_by_steps_that_differ() -> None:
    on, off = torch.ones(4), -torch.ones(4)
    step = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    seen = torch.stack([off, on, step, on, off, on])
    rows = table(seen, 2)
    assert rows.tolist() == [on.tolist(), off.tolist()]
    asked = torch.tensor([[1.0, 1.0, 1.0, -1.0], [-1.0, -1.0, -1.0, 1.0], [-1.0, -1.0, 1.0, 1.0]])
    assert nearest_pattern(asked, rows).tolist() == [0, 1, 0]
    assert table(seen, 5)[2:].tolist() == [step.tolist(), [-1, 1, 1, 1], [1, -1, -1, -1]]
    every = table(seen, 20)  # there are 16: all of them, then the first again
    assert len({tuple(row) for row in every[:16].tolist()}) == 16
    assert every[16:].tolist() == [on.tolist()] * 4


def test_a_search_that_follows_one_beginning_takes_the_nearest_and_one_that_follows_all_the_best() -> None:
    draws = torch.Generator().manual_seed(0)
    x, books = torch.randn(9, 3, generator=draws), [torch.randn(5, 3, generator=draws) for _ in range(3)]
    left, nearest_codes = x, []
    for each in books:
        nearest_codes.append(torch.cdist(left, each).argmin(1))
        left = left - each[nearest_codes[-1]]
    assert torch.equal(search(x, books, 1), torch.stack(nearest_codes, 1))
    every = torch.cartesian_prod(*[torch.arange(5)] * 3)
    sums = sum(each[every[:, place]] for place, each in enumerate(books))
    assert torch.equal(search(x, books, 125), every[torch.cdist(x, sums).argmin(1)])


def test_a_token_never_makes_a_chunk_worse() -> None:
    """Also not one that is like none it was fitted to."""
    books = fit_books(torch.randn(64, 6), torch.arange(64) % 2, 5, 8, (1, 2), 4, torch.Generator().manual_seed(0))
    found, x = list(books), 50 * torch.randn(200, 6)
    assert [int((each.abs().sum(0) > 0).sum()) <= 2 for each in found] == [True] * 5
    for each in found:
        left = x - each[nearest(x, each)]
        assert (left.square().sum(1) <= x.square().sum(1) + 1e-3).all()
        x = left


def test_codebooks_of_few_chunks_serve_others(chunks: Chunks) -> None:
    """Fitted to what is left of chunks they have seen, late codebooks do nothing for others."""
    fresh = of_episodes([picking.actions(seed) for seed in range(200, 220)], 10, 5).actions
    few = of_episodes([picking.actions(seed) for seed in range(25)], 10, 5)
    tokenizer = BandTokenizer(config=BandsConfig(tokens=20)).fit(few)
    truth, codes = tokenizer.normalise(fresh), tokenizer.encode(fresh)
    errors = [float((tokenizer.reconstruct(codes, n) - truth).square().mean()) for n in (11, 16, 21)]
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.7 * errors[1]


@pytest.mark.parametrize("name", ["klt", "dct"])
def test_transforms_are_orthonormal(name: str, chunks: Chunks) -> None:
    """Parseval: an error of coefficients is the error of the signal."""
    x = chunks.actions[..., :6].reshape(len(chunks), -1).astype(np.float64)
    rows = transform.basis(x, name, 10)  # type: ignore[arg-type]
    np.testing.assert_allclose(rows @ rows.T, np.eye(60), atol=1e-10)
    coefficients = (x - x.mean(0)) @ rows.T
    energy = np.square(coefficients).mean(0)
    assert (np.diff(energy) <= 1e-12).all()
    cut = np.where(np.arange(60) < 20, coefficients, 0)
    error = np.square(cut @ rows + x.mean(0) - x).sum()
    assert error == pytest.approx(np.square(coefficients[:, 20:]).sum())
    if name == "klt":
        np.testing.assert_allclose(np.cov(coefficients.T, bias=True), np.diag(energy), atol=1e-10)


def test_cosines_are_scipys() -> None:
    x = np.random.default_rng(0).normal(size=(3, 10, 7))
    np.testing.assert_allclose(transform.dct(x), scipy_dct(x, axis=1, norm="ortho"), atol=1e-12)
    np.testing.assert_allclose(transform.inverse_dct(transform.dct(x)), x, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_normalised_actions_come_back(seed: int, rows: int) -> None:
    draws = np.random.default_rng(seed)
    actions = torch.from_numpy(draws.normal(size=(rows, 3)) * [1, 10, 1] + [0, 5, 0]).float()
    actions[:, 2] = torch.where(actions[:, 2] > 0, 0.04, 0.0)  # a gripper's two positions, in m
    own = Normalizer(3, gripper=2)
    own.fit(actions)
    found = own(actions)
    assert set(found[:, 2].tolist()) <= {-1.0, 1.0}
    torch.testing.assert_close(own.inverse(found), actions, atol=1e-4, rtol=1e-4)
    assert float((found[:, :2].abs() <= 1 + 1e-4).float().mean()) >= (0.9 if rows > 20 else 0)


def test_dimensions_that_never_move_stay_as_they_are() -> None:
    own = Normalizer(2, gripper=None)
    own.fit(torch.tensor([[0.5, 0.0], [0.5, 1.0]]))
    torch.testing.assert_close(own(torch.tensor([0.6, 0.5])) - own(torch.tensor([0.5, 0.5])), torch.tensor([0.1, 0.0]))
    for bad in (torch.full((3, 2), torch.nan), torch.zeros(0, 2), torch.zeros(3, 4)):
        with pytest.raises(BadInput):
            own.fit(bad)
    with pytest.raises(BadInput):
        Normalizer(3, gripper=3)


def test_windows_hold_the_last_action_and_leave_the_first_record_out() -> None:
    source = picking.source(8)
    found = load(source, "train", 10, ChunksConfig(stride=4))
    key = source.episodes("train")[2]
    action = source.episode(key).arrays["action"][1:]
    mine = found.actions[found.episode == 2]
    assert found.start[found.episode == 2].tolist() == list(range(0, len(action), 4))
    np.testing.assert_array_equal(mine[1], action[4:14])
    last = found.start[found.episode == 2][-1]
    np.testing.assert_array_equal(mine[-1][-1], action[-1])
    np.testing.assert_array_equal(mine[-1][: len(action) - last], action[last:])
    assert not found.predicted
    assert found.sources == ("scripted",) * len(source.episodes("train"))


def test_predicted_chunks_are_taken_where_they_begin() -> None:
    source = picking.source(8, plans=True)
    found = load(source, "valid", 10, ChunksConfig())
    assert found.predicted
    episode = source.episode(source.episodes("valid")[0])
    begins = np.flatnonzero(episode.arrays["plan_step"] == 0)
    np.testing.assert_array_equal(found.actions[: len(begins)], episode.arrays["plan"][begins])
    np.testing.assert_array_equal(found.start[: len(begins)], begins - 1)
    np.testing.assert_array_equal(found.actions[0][: picking.REPLAN], episode.arrays["action"][1 : 1 + picking.REPLAN])
    assert load(source, "valid", 6, ChunksConfig()).actions.shape[1] == 6
    assert not load(source, "valid", 6, ChunksConfig(plan="")).predicted
    with pytest.raises(BadInput, match="chunk_size=10"):
        load(source, "valid", 12, ChunksConfig())


def test_splits_are_of_episodes_and_hashes_of_data() -> None:
    source = picking.source(8)
    sides = [load(source, split, 10, ChunksConfig()) for split in ("train", "valid")]  # type: ignore[arg-type]
    assert sum(len(side.sources) for side in sides) == 8
    assert digest(sides[0].actions) != digest(sides[1].actions)
    assert digest(sides[0].actions) == digest(sides[0].actions.copy())
    with pytest.raises(BadInput, match="no chunk"):
        load(picking.source(4, valid_share=0.0), "valid", 10, ChunksConfig())
    with pytest.raises(BadInput):
        ChunksConfig(stride=0)
