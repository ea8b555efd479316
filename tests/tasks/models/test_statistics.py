"""Confidence bounds and metrics, compared with scipy, scikit-learn, simulations and exact values."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from configs.load import load_model
from configs.target import Target
from tasks.models.bootstrap import block_sums, mean_bounds, paired_gain
from tasks.models.metrics import calibration_error, intervals, measure, row_loss

BINARY = Target(column="y", delay="1D")
CLASSES = Target(column="y", kind="multiclass", classes=("a", "b", "c"), delay="1D")
NUMBER = Target(column="y", kind="regression", delay="1D")


def test_bounds_agree_with_the_t_interval_for_normal_blocks_of_equal_size():
    """For many normal blocks of equal size, bootstrap-t and Student's t agree; a bound of 90 % is computed at 93 %.

    With 600 blocks that alternate around their mean, autocorrelation is negative and surely not positive, so it does not widen the bounds.
    """
    rng = np.random.default_rng(0)
    by_day = np.sort(rng.normal(0.02, 0.05, 600))
    by_day = np.stack([by_day[:300], by_day[:299:-1]], axis=1).ravel()
    actual = mean_bounds(by_day * 10, np.full(600, 10.0), 0.9, 5_000, 0)
    expected = stats.ttest_1samp(by_day, 0).confidence_interval(0.86)
    assert actual.value == pytest.approx(by_day.mean())
    assert actual.lower == pytest.approx(expected.low, abs=2e-4)
    assert actual.upper == pytest.approx(expected.high, abs=2e-4)


@pytest.mark.parametrize("blocks", [8, 14, 30])
def test_an_equal_challenger_passes_at_most_at_the_nominal_rate(blocks):
    """Rate of lower bounds > 0 without a gain, with skewed errors and days of different size: within three binomial errors of 10 %."""
    rng, runs, passed = np.random.default_rng(1), 400, 0
    for run in range(runs):
        rows = rng.integers(20, 200, blocks).astype(float)
        gains = (rng.exponential(1, blocks) - 1) * 0.02 * rows + rng.normal(0, 0.3, blocks) * np.sqrt(rows)
        passed += mean_bounds(gains, rows, 0.9, 300, run).lower > 0
    assert passed / runs < 0.1 + 3 * np.sqrt(0.1 * 0.9 / runs)
    assert passed > 0


def test_rows_have_equal_weights_if_blocks_differ_in_size():
    champion, challenger = np.array([1.0, 1.0, 1.0, 0.0]), np.zeros(4)
    assert paired_gain(champion, challenger, np.array([0, 0, 0, 1]), 0.9, 200, 0).value == pytest.approx(0.75)


def test_for_correlated_rows_blocks_give_wider_intervals_than_rows():
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(14), 500)
    noise = np.repeat(rng.normal(0, 0.05, 14), 500)
    by_day, by_row = (paired_gain(noise, np.zeros(7000), b, 0.9, 1000, 0) for b in (days, np.arange(7000)))
    assert by_day.upper - by_day.lower > 3 * (by_row.upper - by_row.lower), (
        "single rows show dependence, but not all of it"
    )


def test_identical_models_have_no_gain_and_one_block_gives_no_bounds():
    loss = np.random.default_rng(3).random(100)
    gain = paired_gain(loss, loss, np.arange(100) % 10, 0.9, 200, 0)
    assert (gain.value, gain.lower, gain.upper) == (0, 0, 0)
    assert np.isnan(paired_gain(loss, loss / 2, np.zeros(100), 0.9, 200, 0).lower)
    assert np.isnan(paired_gain(loss, np.where(loss > 0.5, np.nan, 0), np.arange(100) % 10, 0.9, 200, 0).lower)


def test_binary_metrics_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    outcome, prediction = rng.integers(0, 2, 500), rng.random(500).round(2)
    prediction[:3], outcome[:3] = [0.0, 1.0, 0.5], [0, 1, 1]
    actual = measure(outcome, prediction, BINARY)
    assert actual["log_loss"] == pytest.approx(metrics.log_loss(outcome, prediction), rel=1e-12)
    assert actual["roc_auc"] == pytest.approx(metrics.roc_auc_score(outcome, prediction))
    assert actual["average_precision"] == pytest.approx(metrics.average_precision_score(outcome, prediction))
    assert actual["brier"] == pytest.approx(((outcome - prediction) ** 2).mean())
    assert np.isnan(measure(np.zeros(5), np.full(5, 0.2), BINARY)["roc_auc"])
    assert all(np.isnan(v) for v in measure(np.zeros(5), np.full(5, np.nan), BINARY).values())
    assert all(np.isnan(v) for v in measure(np.empty(0), np.empty(0), BINARY).values())


def test_multiclass_metrics_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    outcome, prediction = rng.integers(0, 3, 600), rng.dirichlet([1, 1, 1], 600)
    actual = measure(outcome, prediction, CLASSES)
    assert actual["log_loss"] == pytest.approx(metrics.log_loss(outcome, prediction), rel=1e-9)
    assert actual["accuracy"] == metrics.accuracy_score(outcome, prediction.argmax(axis=1))
    assert actual["macro_f1"] == pytest.approx(metrics.f1_score(outcome, prediction.argmax(axis=1), average="macro"))
    assert actual["roc_auc"] == pytest.approx(
        metrics.roc_auc_score(outcome, prediction, multi_class="ovr", average="macro")
    )


def test_regression_metrics_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    outcome = rng.normal(5, 2, 300)
    prediction = outcome + rng.normal(0.3, 1, 300)
    actual = measure(outcome, prediction, NUMBER)
    assert actual["squared_error"] == pytest.approx(metrics.mean_squared_error(outcome, prediction))
    assert actual["absolute_error"] == pytest.approx(metrics.mean_absolute_error(outcome, prediction))
    assert actual["r2"] == pytest.approx(metrics.r2_score(outcome, prediction))
    assert actual["calibration_error"] == pytest.approx(abs((outcome - prediction).mean()) / outcome.std())
    absolute = NUMBER.model_copy(update={"loss": "absolute_error"})
    assert row_loss(outcome, prediction, absolute).mean() == pytest.approx(actual["absolute_error"])


def test_calibration_error_is_zero_for_calibrated_and_the_shift_for_shifted_probabilities():
    rng = np.random.default_rng(0)
    prediction = rng.uniform(0.1, 0.8, 200_000)
    outcome = (rng.random(200_000) < prediction).astype(int)
    assert calibration_error(outcome, prediction, BINARY) < 0.005
    assert calibration_error(outcome, prediction + 0.1, BINARY) == pytest.approx(0.1, abs=0.005)
    assert calibration_error(outcome, np.full(200_000, outcome.mean()), BINARY) == pytest.approx(0, abs=1e-9)


def test_the_interval_of_auc_agrees_with_the_formula_for_independent_rows():
    """With blocks of one row it is an ordinary bootstrap; its width is compared with Hanley and McNeil's formula (1982)."""
    rng = np.random.default_rng(0)
    outcome = np.repeat([0, 1], 400)
    prediction = rng.normal(outcome, 1).round(1)
    interval = intervals(outcome, prediction, np.arange(800), BINARY, 400, 0)["roc_auc"]
    auc = metrics.roc_auc_score(outcome, prediction)
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    error = np.sqrt((auc * (1 - auc) + 399 * (q1 - auc**2) + 399 * (q2 - auc**2)) / (400 * 400))
    assert interval.value == pytest.approx(auc)
    assert (interval.upper - interval.lower) / 2 == pytest.approx(1.96 * error, rel=0.15)


def test_intervals_of_losses_have_95_percent_coverage():
    rng, covered = np.random.default_rng(5), 0
    for run in range(200):
        outcome = rng.integers(0, 2, 400)
        prediction = np.full(400, 0.3)
        interval = intervals(outcome, prediction, np.repeat(np.arange(40), 10), BINARY, 300, run)["log_loss"]
        expected = -(np.log(0.3) + np.log(0.7)) / 2
        covered += interval.lower <= expected <= interval.upper
    assert covered / 200 > 0.93


def test_intervals_are_clipped_to_the_possible_values():
    """With few blocks and a long tail, studentised bounds lie outside of [0, 1]."""
    rng = np.random.default_rng(0)
    outcome = np.r_[np.zeros(95), np.ones(5)]
    prediction = np.r_[rng.uniform(0, 0.1, 95), np.full(5, 0.001)]
    bounds = intervals(outcome, prediction, np.repeat(np.arange(4), 25), BINARY, 300, 0)
    assert (bounds["brier"].lower, bounds["log_loss"].lower) == (0, 0)
    assert bounds["brier"].value < bounds["brier"].upper <= 1
    one_block = intervals(outcome, prediction, np.zeros(100), BINARY, 300, 0)["brier"]
    assert np.isnan([one_block.lower, one_block.upper]).all()


def test_block_sums_add_up():
    sums, rows = block_sums(np.array([1.0, 2, 3, 4]), np.array([7, 5, 7, 5]))
    assert (sums.tolist(), rows.tolist()) == ([6.0, 4.0], [2.0, 2.0])


def test_the_default_loss_of_each_kind():
    assert load_model("flights").config.target.eval_loss == "log_loss"
    assert NUMBER.eval_loss == "squared_error"


def test_the_interval_of_auc_is_wider_if_days_resemble_their_neighbours():
    """The same days in random order and in runs of ten good and ten bad ones."""
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(60), 50)
    good = (np.arange(60) // 10) % 2
    outcome = rng.integers(0, 2, 3000)
    score = rng.normal(outcome * (0.3 + 2 * good[day]), 1)
    shuffled = rng.permutation(60)[day]
    runs, mixed = (
        intervals(outcome, stats.norm.cdf(score), blocks, BINARY, 400, 0)["roc_auc"] for blocks in (day, shuffled)
    )
    assert runs.value == mixed.value
    assert runs.upper - runs.lower > 1.5 * (mixed.upper - mixed.lower)
    assert 0 <= runs.lower < runs.upper <= 1
