"""Intervals against closed forms, and against how often they hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distwm.statistics import (
    bootstrap_interval,
    difference_interval,
    hierarchical_gain,
    over_seeds,
    sign_flip_p,
    t_interval,
    wilson_interval,
)

FINITE = st.floats(-1e6, 1e6)


def test_t_interval_of_a_hand_worked_case() -> None:
    found = t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * math.sqrt(2.5) / math.sqrt(5)  # t(4) at 97.5%, s^2 = 2.5
    assert (found.mean, found.count) == (3.0, 5)
    assert found.low == pytest.approx(3 - half)
    assert found.high == pytest.approx(3 + half)


def test_one_value_has_no_interval_and_claims_nothing() -> None:
    found = t_interval([7.0])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert not found.above_zero
    assert not found.below_zero


@given(st.lists(FINITE, min_size=2, max_size=30), FINITE)
def test_t_interval_moves_with_its_values(values: list[float], shift: float) -> None:
    found, moved = t_interval(values), t_interval(np.array(values) + shift)
    assert found.low <= found.mean <= found.high
    assert moved.low == pytest.approx(found.low + shift, abs=1e-3)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 0.0], [[1.0]]])
def test_what_is_no_list_of_numbers_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        t_interval(values)


def test_welch_of_a_hand_worked_case() -> None:
    found = difference_interval([1.0, 2.0, 3.0], [10.0, 10.0, 13.0, 15.0])  # variances 1 and 6
    total = 1 / 3 + 6 / 4
    freedom = total**2 / ((1 / 3) ** 2 / 2 + (6 / 4) ** 2 / 3)
    assert (found.mean, found.count) == (-10.0, 3)
    assert freedom == pytest.approx(4.1727, abs=1e-3)
    assert found.high - found.mean == pytest.approx(2.733 * math.sqrt(total), rel=2e-3)
    assert found.below_zero


def test_a_difference_to_one_value_claims_nothing() -> None:
    assert not difference_interval([5.0], [1.0, 2.0]).above_zero
    assert difference_interval([2.0, 2.0], [1.0, 1.0]).low == 1.0


def test_bootstrap_agrees_with_t_where_both_hold_and_repeats() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 200)
    boot, student = bootstrap_interval(values), t_interval(values)
    assert boot.low == pytest.approx(student.low, abs=0.02)
    assert boot.high == pytest.approx(student.high, abs=0.02)
    assert boot == bootstrap_interval(values)
    assert boot != bootstrap_interval(values, seed=1)


def test_t_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [t_interval(rng.normal(1.0, 3.0, 12)) for _ in range(2000)]
    assert np.mean([f.low <= 1.0 <= f.high for f in found]) == pytest.approx(0.95, abs=0.015)


def test_hierarchical_gain_without_noise_between_seeds_is_the_bootstrap_over_episodes() -> None:
    gains = [np.random.default_rng(seed).normal(1.0, 2.0, 100) for seed in range(5)]
    gains = [g - g.mean() + 1.0 for g in gains]
    found = hierarchical_gain(gains)
    assert (found.mean, found.count) == (pytest.approx(1.0), 5)
    half = 1.96 * 2.0 / math.sqrt(500)
    assert found.low == pytest.approx(1 - half, abs=0.03)


def test_hierarchical_gain_without_noise_between_episodes_is_the_bootstrap_over_seeds() -> None:
    found = hierarchical_gain([np.full(50, mean) for mean in (0.0, 1.0, 2.0)])
    # All three places draw the same seed with probability 1/27 = 3.7%, more than 2.5%: the ends are the extreme seeds.
    assert (found.mean, found.low, found.high) == (1.0, 0.0, 2.0)


def test_hierarchical_gain_sees_seeds_that_a_pool_of_episodes_would_hide() -> None:
    gains = [np.random.default_rng(seed).normal(mean, 0.1, 100) for seed, mean in enumerate((3.0, -0.5, 0.2))]
    assert t_interval(np.concatenate(gains)).above_zero
    assert not hierarchical_gain(gains).above_zero
    assert not over_seeds(gains).above_zero


def test_one_seed_is_no_study() -> None:
    with pytest.raises(ValueError, match="two"):
        hierarchical_gain([[1.0, 2.0]])


def test_over_seeds_counts_every_seed_once() -> None:
    assert over_seeds([[1.0] * 3, [3.0] * 300]) == t_interval([1.0, 3.0])


def test_sign_flips() -> None:
    assert sign_flip_p([1.0] * 20) < 0.001
    assert sign_flip_p([1.0, -1.0] * 10) == pytest.approx(1.0)
    assert sign_flip_p([1.0] * 4) == pytest.approx(2 / 16, abs=0.02)  # two of the sixteen patterns are as far


def test_wilson_interval_of_a_known_case_and_at_the_ends() -> None:
    found = wilson_interval(8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson_interval(0, 10).low == pytest.approx(0.0, abs=1e-12)
    assert wilson_interval(10, 10).high == pytest.approx(1.0, abs=1e-12)
