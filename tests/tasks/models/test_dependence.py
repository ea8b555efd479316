"""Measured dependence, compared with matrix formulas and with simulations of AR(1) series that are written out here."""

import numpy as np
import pytest
from scipy import stats

from tasks.models.bootstrap import mean_bounds
from tasks.models.dependence import (
    MAX_AUTOCORRELATION,
    Autocorrelation,
    effective_blocks,
    error_factor,
    lag_one,
    shrink,
    variance_of_sum,
)
from tasks.models.metrics import LEVEL


def ar1(seed: int, runs: int, blocks: int, rho: float) -> np.ndarray:
    """Draw AR(1) series from their covariance matrix, `(runs, blocks)`."""
    covariance = rho ** np.abs(np.subtract.outer(np.arange(blocks), np.arange(blocks)))
    return np.random.default_rng(seed).normal(size=(runs, blocks)) @ np.linalg.cholesky(covariance).T


def centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("sizes", [(30,), (60, 12)], ids=["one sample", "two samples"])
def test_the_mean_of_the_estimates_is_close_to_rho(rho, sizes):
    """Without the correction, it is .56 x .6 - .03 for one sample of 30."""
    samples = [centred(part) for part in np.split(ar1(0, 4000, sum(sizes), rho), sizes[:-1], axis=1)]
    estimates = lag_one(samples, [np.full(n, 7.0) for n in sizes])
    assert estimates.r.mean() == pytest.approx(rho, abs=0.02)
    assert estimates.angle.std() == pytest.approx(estimates.deviation.mean(), rel=0.3)


def test_the_estimate_does_not_depend_on_the_size_of_blocks_if_it_is_the_same_and_a_constant_series_has_none():
    x = centred(ar1(1, 1, 20, 0.5))[0]
    assert lag_one([x], [np.ones(20)]).r == pytest.approx(lag_one([x * 3], [np.full(20, 9.0)]).r)
    assert lag_one([np.zeros(20)], [np.ones(20)]).r == 0
    assert lag_one([np.zeros(1)], [np.ones(1)]).deviation == 1


def test_the_variance_of_a_sum_is_the_quadratic_form():
    weights = np.random.default_rng(0).random(15)
    for r in (0.0, 0.4, 0.9):
        matrix = r ** np.abs(np.subtract.outer(np.arange(15), np.arange(15)))
        assert variance_of_sum(weights, np.array(r)) == pytest.approx(weights @ matrix @ weights)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9])
def test_the_factor_is_the_ratio_of_the_true_standard_error_to_the_usual_one(rho):
    """For a difference of two samples that are independent of each other, with noise in half of the blocks' variance and without."""
    for signal in (1.0, 0.6):
        both = []
        for seed, blocks in enumerate((40, 10)):
            noise = np.random.default_rng(9 + seed).normal(size=(20_000, blocks))
            both.append(np.sqrt(signal) * ar1(seed, 20_000, blocks, rho) + np.sqrt(1 - signal) * noise)
        difference = both[0].mean(axis=1) - both[1].mean(axis=1)
        pooled = sum((centred(x) ** 2).sum(axis=1) for x in both) / 48
        usual = np.sqrt(pooled.mean() * (1 / 40 + 1 / 10))
        r = np.array(rho * signal)
        factor = error_factor([np.ones(40), np.ones(10)], r, r, signal)
        assert factor == pytest.approx(difference.std() / usual, rel=0.03)


def test_similar_estimates_are_shrunk_to_their_mean_and_a_different_one_stays():
    r = np.array([0.0, 0.1, -0.1, 0.05, -0.05, 0.05, -0.05, 0.0, 0.0, 0.7])
    estimates = Autocorrelation(r, np.arcsin(r), np.full(10, 0.1))
    shrunk = shrink(Autocorrelation(*(x[:9] for x in estimates)), np.full((9, 9), 0.01))
    assert np.allclose(shrunk.angle, 0.0, atol=1e-3)
    assert (shrunk.deviation < 0.05).all()
    mixed = shrink(estimates, np.full((10, 10), 0.01))
    assert np.sin(mixed.angle[-1]) > 0.62, "at most one standard error less"
    identical = shrink(Autocorrelation(*(x[:9] for x in estimates)), np.ones((9, 9)))
    assert (identical.deviation > 0.08).all(), "nine copies of one series are one series"


def test_quantiles_are_neither_negative_nor_above_the_largest_autocorrelation():
    wide = Autocorrelation(np.array(0.5), np.array(0.5), np.array(1.0)).quantiles(np.array([0.001, 0.5, 0.999]))
    assert wide.tolist() == pytest.approx([0.0, np.sin(0.5), MAX_AUTOCORRELATION])


def test_effective_blocks():
    assert effective_blocks(30, 0.5) == pytest.approx(10)


@pytest.mark.long
@pytest.mark.parametrize("rho", [0.3, 0.6])
def test_intervals_cover_the_mean_of_dependent_blocks_where_students_t_does_not(rho):
    """Two-sided 95 %, at least 90 % within three binomial errors, for 30 blocks. Student's t is SciPy's."""
    series, rows = ar1(3, 300, 30, rho), np.full(30, 5.0)
    bounds = [mean_bounds(x * rows, rows, LEVEL, 200, run) for run, x in enumerate(series)]
    covered = np.mean([b.lower <= 0 <= b.upper for b in bounds])
    usual = stats.ttest_1samp(series, 0, axis=1).confidence_interval(0.95)
    assert covered >= 0.93
    assert covered > np.mean((usual.low <= 0) & (usual.high >= 0)) + 0.03


def test_bounds_stay_within_what_is_possible():
    """A week of 7 rows with one large squared error."""
    losses = np.r_[np.random.default_rng(0).exponential(3, 6), 159.0]
    free = mean_bounds(losses, np.ones(7), LEVEL, 400, 0)
    bounded = mean_bounds(losses, np.ones(7), LEVEL, 400, 0, 0.0, losses.max())
    assert free.upper > 159.0
    assert (bounded.lower, bounded.upper) == (max(free.lower, 0.0), 159.0)
    assert bounded.value == free.value
