"""Intervals: exact where they can be, seeded, and about as wide as they should be."""

import numpy as np
import pytest

from LoraModel.evaluation import bootstrap


def test_equal_values_have_no_width():
    assert bootstrap.median_interval([0.25] * 5) == bootstrap.mean_interval([0.25]) == (0.25, 0.25, 0.25)


def test_interval_of_two_values_by_hand():
    # drawn with replacement, the mean of 0 and 1 is 0 or 1 a quarter of the time each: both ends are reached
    assert bootstrap.mean_interval([0.0, 1.0]) == (0.5, 0.0, 1.0)


def test_median_is_inside():
    value, low, high = bootstrap.median_interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert value == 3.0 and 1.0 <= low <= value <= high <= 100.0


def test_equal_seeds_give_equal_intervals():
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap.mean_interval(values, seed=3) == bootstrap.mean_interval(values,
                                                                              seed=3) != bootstrap.mean_interval(
                                                                                  values, seed=4)


def test_interval_is_that_of_the_normal_for_many_clips():
    values = np.random.default_rng(0).normal(5, 2, 400)
    value, low, high = bootstrap.mean_interval(values)
    half = 1.96 * values.std() / 20
    assert value == pytest.approx(values.mean()) and (value - low, high - value) == (pytest.approx(half, rel=0.1),
                                                                                     pytest.approx(half, rel=0.1))


def test_coverage_is_near_95_percent():
    rng = np.random.default_rng(1)
    intervals = [bootstrap.mean_interval(rng.normal(1, 1, 30), rounds=400) for _ in range(300)]
    assert 0.9 <= np.mean([low <= 1 <= high for _, low, high in intervals]) <= 0.98


def test_clips_are_paired():
    hard = np.random.default_rng(0).uniform(1, 9, 30)  # clips of very different difficulty
    assert bootstrap.difference_interval(hard - 0.5, hard) == tuple(pytest.approx(-0.5) for _ in range(3))
    assert bootstrap.ratio_interval(0.8 * hard, hard) == tuple(pytest.approx(0.8) for _ in range(3))


def test_ratio_is_of_the_means():
    assert bootstrap.ratio_interval([1.0, 3.0], [2.0, 2.0]).value == 1.0  # the mean of the ratios would be 1 too
    assert bootstrap.ratio_interval([1.0, 3.0], [1.0, 7.0]).value == 0.5  # and here 0.714


@pytest.mark.parametrize("samples", [([],), ([1.0, 2.0], [1.0]), ([1.0, float("nan")],)])
def test_what_cannot_be_drawn_from_is_refused(samples):
    with pytest.raises(ValueError, match="bootstrap needs"):
        bootstrap.bootstrap(samples, lambda *drawn: drawn[0].mean(axis=-1))
