"""What tokenizers are compared with is what its names say, and every comparison is in bits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct as scipy_dct
from scipy.fft import idct

from learners.rvq.analyse import claims
from learners.rvq.errors import Errors, r2, ratio, sign_errors, squared
from learners.rvq.heldout import half_ranges, lost_by
from learners.rvq.hypotheses import Interval, bootstrap, examine, verdict
from learners.rvq.normalizer import Normalizer
from learners.rvq.peers import cosines, steps
from learners.rvq.peers.byte_pairs import BytePairs
from learners.rvq.peers.coded import Coded
from learners.rvq.peers.fast import Fast, apart
from learners.rvq.phases import GRASP, PLACE, REACH, by_phase, layers_needed, of_chunks, phases
from learners.rvq.rates import PeersConfig, Yardstick, at_most, between, flat, peers


def smooth(rows: int, seed: int = 0) -> np.ndarray:
    """(rows, 10, 3): random walks, and a gripper."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(size=(rows, 10, 2)), 1) * 0.2
    closed = np.where(np.arange(10) >= rng.integers(0, 11, (rows, 1)), 1.0, -1.0)
    return np.concatenate([walk, closed[..., None]], -1)


def test_cosines_are_kept_and_counted() -> None:
    train, test = smooth(300), smooth(50, 1)
    whole = scipy_dct(test, axis=1, norm="ortho")
    whole[:, 3:] = 0
    found = cosines.keep(train, test, 3, 32)
    np.testing.assert_allclose(found.found, idct(whole, axis=1, norm="ortho"), atol=1e-12)
    assert (found.bits, found.tokens) == (3 * 3 * 32, 9)
    errors = [np.square(cosines.keep(train, test, 10, bits).found - test).mean() for bits in (2, 4, 6, 8, 32)]
    assert all(finer < coarser for coarser, finer in pairwise(errors))
    assert errors[-1] < 1e-20
    assert cosines.keep(train, test, 5, 8).bits == 5 * 3 * 8


def test_pairs_are_merged_by_hand() -> None:
    """0 1 occurs most; then (0 1) 2; then nothing twice."""
    found = BytePairs.fit(np.array([[0, 1, 2, 0, 1], [2, 0, 1, 2, 2]]), alphabet=3, vocabulary=9)
    assert found.merges[0] == (0, 1)
    assert found.merges[1] == (2, 3)
    coded = found.encode(np.array([[0, 1, 2, 0, 1], [0, 0, 0, 1, 2]]))
    assert [list(each) for each in coded] == [[3, 4], [0, 0, 3, 2]]
    assert found.vocabulary == 5


def test_runs_of_one_symbol_are_merged_from_the_left() -> None:
    found = BytePairs(2, [(0, 0)])
    assert [each.tolist() for each in found.encode(np.array([[0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]))] == [
        [2, 0, 1, 0],
        [2, 2, 0],
    ]


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 12), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_byte_pairs_lose_nothing(seed: int, alphabet: int, rows: int, length: int) -> None:
    draws = np.random.default_rng(seed)
    known, asked = (draws.integers(alphabet, size=(rows, length)) for _ in range(2))
    found = BytePairs.fit(known, alphabet, alphabet + 20)
    for sequence, symbols in zip(asked, found.encode(asked), strict=True):
        assert found.decode(symbols).tolist() == sequence.tolist()
        assert len(symbols) <= length
    with pytest.raises(ValueError, match="must lie"):
        found.encode(np.full((1, 1), alphabet))


def test_byte_pairs_are_those_of_the_library() -> None:
    library = pytest.importorskip("tokenizers", reason="pip install 'distwm[bench]' compares with it")
    draws = np.random.default_rng(0)
    known = np.minimum(draws.geometric(0.3, size=(200, 30)) - 1, 9)
    asked = np.minimum(draws.geometric(0.3, size=(50, 30)) - 1, 9)
    letters = [chr(ord("a") + n) for n in range(10)]
    theirs = library.Tokenizer(library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=60, min_frequency=2, initial_alphabet=letters, special_tokens=[], show_progress=False
    )
    theirs.train_from_iterator(["".join(letters[n] for n in row) for row in known], trainer)
    ours = BytePairs.fit(known, 10, 60)
    counts = [len(theirs.encode("".join(letters[n] for n in row)).ids) for row in asked]
    mine = [len(symbols) for symbols in ours.encode(asked)]
    assert np.mean(mine) == pytest.approx(np.mean(counts), rel=0.02)


def test_fast_loses_what_rounding_loses() -> None:
    train, test = smooth(400), smooth(60, 1)
    results = [Fast.fit(train, scale, 100).code(test) for scale in (2.0, 5.0, 10.0)]
    for scale, result in zip((2.0, 5.0, 10.0), results, strict=True):
        rounded = np.rint(scipy_dct(test, axis=1, norm="ortho") * scale) / scale
        expected = np.square(idct(rounded, axis=1, norm="ortho") - test).mean()
        assert np.square(result.found - test).mean() == pytest.approx(expected, rel=0.1)  # a few are clipped
        assert result.bits == pytest.approx(result.tokens * 7)
    assert results[0].tokens < results[1].tokens < results[2].tokens < 30
    known = apart(train, test, 5.0, 100, gripper=2, patterns=16)
    assert np.array_equal(known.found[..., 2], test[..., 2])
    assert known.bits == pytest.approx((known.tokens - 1) * 7 + 4)


def test_steps_come_nearer_layer_by_layer() -> None:
    found = list(steps.by_layers(smooth(200), smooth(40, 1), layers=3, codes=16))
    errors = [np.square(each.found - smooth(40, 1)).mean() for each in found]
    assert errors[2] < errors[1] < errors[0]
    assert [each.bits for each in found] == [40, 80, 120]


def test_errors_of_the_arm_and_of_the_gripper_make_the_whole() -> None:
    truth, found = smooth(20), smooth(20, 3)
    scale = np.array([0.5, 2.0, 1.0])
    errors = squared(truth, found, scale, 2)
    np.testing.assert_allclose(errors.norm, (errors.arm * 2 + errors.gripper) / 3)
    np.testing.assert_allclose(errors.raw, np.square((truth - found) * scale).mean((1, 2)))
    assert squared(truth, found, scale, None).gripper.tolist() == [0] * 20
    assert r2(0.0, truth) == 1
    assert r2(float(truth.var((0, 1)).mean()), truth) == pytest.approx(0)
    assert sign_errors(truth, np.where([False, False, True], -truth, truth), 2) == 1
    assert sign_errors(truth, truth, 2) == 0
    assert ratio(80, 10, 7) == 28  # the document's figure at one layer


@pytest.mark.parametrize("least", [0.3, 1.0])
def test_a_gripper_between_its_positions_is_an_error_of_all_methods(least: float) -> None:
    """Normalised chunks come back as they are: what is left is what normalising loses, nothing of a gripper at +-1."""
    rng = np.random.default_rng(0)
    actions = smooth(200).astype(np.float32)
    actions[..., 2] *= rng.uniform(least, 1.0, (200, 10))
    normalizer = Normalizer(3)
    normalizer.fit(torch.from_numpy(actions))
    truth = normalizer(torch.from_numpy(actions)).numpy()
    back = normalizer.inverse(torch.from_numpy(truth)).numpy()
    scale, lost = half_ranges(normalizer), lost_by(normalizer, actions)
    errors = squared(truth, truth, scale, 2, lost)
    kept = Yardstick(truth=truth, scale=scale, gripper=2, lost=lost).points([Coded(8, 1, truth)])
    actual = np.square((back - actions)[..., 2].astype(np.float64)).mean()
    assert (actual > 0.03) == (least < 1)
    for raw, gripper in ((errors.raw.mean(), errors.gripper.mean()), (kept["mse_raw"][0], kept["mse_gripper"][0])):
        assert raw == pytest.approx(actual / 3)
        assert gripper == pytest.approx(actual / scale[2] ** 2)
    assert not errors.norm.any()
    assert not errors.arm.any()


def test_intervals_are_over_episodes() -> None:
    """Chunks that repeat one another within an episode tell no more than one of them."""
    rng = np.random.default_rng(0)
    by_episode = rng.gamma(2.0, 0.005, 30)
    once = bootstrap(by_episode, np.arange(30))
    often = bootstrap(np.repeat(by_episode, 50), np.repeat(np.arange(30), 50))
    assert often == pytest.approx(once)
    independent = bootstrap(np.repeat(by_episode, 50), np.arange(1500))
    assert independent.high - independent.low < 0.3 * (once.high - once.low)
    assert once.low < once.mean < once.high
    spread = by_episode.std() / np.sqrt(30)
    assert once.high - once.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert bootstrap(np.ones(5), np.zeros(5)).high == np.inf


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.001, 0.009, "validated"), (0.001, 0.011, "not shown"), (0.011, 0.02, "refuted"), (0.001, 0.01, "not shown")],
)
def test_verdicts_want_the_whole_interval(low: float, high: float, expected: str) -> None:
    assert verdict(Interval(0.005, low, high), 0.01) == expected


def test_only_a_validated_hypothesis_says_so() -> None:
    errors = np.linspace(0.001, 0.003, 40)
    good, bad = (examine("coarse", errors, np.arange(40), gate) for gate in (0.01, 0.002))
    assert "hypothesis validated" in str(good)
    assert "hypothesis validated" not in str(bad)
    assert bad.verdict == "not shown"


@pytest.mark.parametrize("episodes", [2, 7, 8])
def test_a_verdict_takes_eight_episodes(episodes: int) -> None:
    """Two that are alike have an interval without any width."""
    errors, numbers = np.full(5 * episodes, 0.001), np.repeat(np.arange(episodes), 5)
    for gate, verdict_of_many in ((0.01, "validated"), (0.0001, "refuted")):
        found = examine("fine", errors, numbers, gate)
        assert found.interval.low == found.interval.high
        assert found.verdict == (verdict_of_many if episodes >= 8 else "not shown")
        assert (f"held-out episodes: {episodes}, a verdict takes 8" in str(found)) == (episodes < 8)
        assert claims((found,))["reason"].tolist() == [found.reason]


def test_phases_are_told_from_the_gripper() -> None:
    closed = np.array([0] * 10 + [1] * 12 + [0] * 6, bool)
    expected = [REACH] * 7 + [GRASP] * 6 + [PLACE] * 15
    assert phases(closed, margin=3).tolist() == expected
    retry = np.array([0] * 8 + [1] * 3 + [0] * 9 + [1] * 8 + [0] * 4, bool)  # closes on nothing, and again
    found = phases(retry, margin=2)
    assert found.tolist() == [REACH] * 6 + [GRASP] * 4 + [PLACE] + [REACH] * 7 + [GRASP] * 4 + [PLACE] * 10
    assert phases(np.zeros(5, bool)).tolist() == [REACH] * 5
    assert phases(np.ones(6, bool), margin=2).tolist() == [GRASP] * 2 + [PLACE] * 4
    taken = np.where(closed, 1.0, -1.0)[:, None]
    starts = np.array([0, 5, 20, 27])
    of = of_chunks([taken], np.zeros(4, int), starts, 10, 0, 0.0, margin=3)
    assert of.tolist() == [REACH, GRASP, PLACE, PLACE]
    turned = of_chunks([-taken], np.zeros(4, int), starts, 10, 0, 0.0, closed_is_high=False, margin=3)
    assert turned.tolist() == of.tolist()


def test_layers_that_a_chunk_needs() -> None:
    errors = np.array([[0.02, 0.5, 0.005], [0.01, 0.4, 0.004], [0.001, 0.3, 0.003]])
    needed = layers_needed(errors, 0.01)
    assert needed.tolist() == [2, 4, 1]
    table = by_phase(needed, np.array([REACH, GRASP, REACH]), 3)
    assert table["counts"].tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert table["mean"][:2].tolist() == [1.5, 4]
    assert np.isnan(table["mean"][2])


def test_curves_are_read_at_equal_bits() -> None:
    points = {"bits": np.array([100.0, 200.0]), "mse_norm": np.array([0.01, 0.0001])}
    assert between(points, 150) == pytest.approx(0.001)
    assert np.isnan(between(points, 250))
    assert at_most(points, 199) == (100, 0.01)
    assert np.isnan(at_most(points, 50)[0])


def test_every_peer_has_its_points() -> None:
    config = PeersConfig(dct_keep=(1, 5, 30), fast_scales=(4.0, 2.0), fast_vocabulary=60, step_layers=2, step_codes=8)
    against = Yardstick(truth=smooth(30, 1), scale=np.ones(3), gripper=2)
    found = peers(config, smooth(200), against)
    assert set(found) == {"dct6", "dct8", "dct32", "fast", "fast_apart", "steps"}
    assert found["dct8"]["bits"].tolist() == [24, 120]
    names = {"bits", "tokens", *(f"mse_{kind}" for kind in Errors._fields)}
    assert all(set(points) == names for points in found.values())
    assert (np.diff(found["fast"]["bits"]) > 0).all()
    assert found["fast_apart"]["mse_gripper"].max() < found["fast"]["mse_gripper"].min()
    assert flat(found)["steps_bits"].tolist() == [30, 60]
