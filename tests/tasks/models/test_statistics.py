"""The statistics behind gate and scorecard, against independent ones: scipy, scikit-learn, simulation, arithmetic."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from configs.load import load_model
from configs.schema import Target
from tasks.models.bootstrap import block_sums, mean_bounds, paired_gain
from tasks.models.metrics import calibration_error, intervals, measure, row_loss

BINARY = Target(column="y", delay="1D")
CLASSES = Target(column="y", kind="multiclass", classes=("a", "b", "c"), delay="1D")
NUMBER = Target(column="y", kind="regression", delay="1D")


def test_bounds_agree_with_the_t_interval_of_normal_blocks_of_equal_size():
    """For many normal blocks of equal size, bootstrap-t and Student's t are the same; 90 % is made at 93 %."""
    rng = np.random.default_rng(0)
    by_day = rng.normal(0.02, 0.05, 60)
    got = mean_bounds(by_day * 10, np.full(60, 10.0), 0.9, 20_000, 0)
    expected = stats.ttest_1samp(by_day, 0).confidence_interval(0.86)
    assert got.value == pytest.approx(by_day.mean())
    assert got.lower == pytest.approx(expected.low, abs=7e-4)
    assert got.upper == pytest.approx(expected.high, abs=7e-4)


@pytest.mark.parametrize("blocks", [8, 14, 30])
def test_an_equal_challenger_passes_no_more_often_than_stated(blocks):
    """One-sided rate of lower bound > 0 under no gain, skewed day errors and unequal days: within three binomial errors of 10 %."""
    rng, runs, passed = np.random.default_rng(1), 400, 0
    for run in range(runs):
        rows = rng.integers(20, 200, blocks).astype(float)
        gains = (rng.exponential(1, blocks) - 1) * 0.02 * rows + rng.normal(0, 0.3, blocks) * np.sqrt(rows)
        passed += mean_bounds(gains, rows, 0.9, 300, run).lower > 0
    assert passed / runs < 0.1 + 3 * np.sqrt(0.1 * 0.9 / runs)
    assert passed > 0


def test_gain_weighs_rows_alike_where_blocks_differ_in_size():
    theirs, mine = np.array([1.0, 1.0, 1.0, 0.0]), np.zeros(4)
    assert paired_gain(theirs, mine, np.array([0, 0, 0, 1]), 0.9, 200, 0).value == pytest.approx(0.75)


def test_whole_days_widen_the_interval_that_rows_would_give():
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(14), 500)
    noise = np.repeat(rng.normal(0, 0.05, 14), 500)
    by_day, by_row = (paired_gain(noise, np.zeros(7000), b, 0.9, 1000, 0) for b in (days, np.arange(7000)))
    assert by_day.upper - by_day.lower > 5 * (by_row.upper - by_row.lower)


def test_identical_models_have_no_gain_and_one_block_no_bound():
    loss = np.random.default_rng(3).random(100)
    same = paired_gain(loss, loss, np.arange(100) % 10, 0.9, 200, 0)
    assert (same.value, same.lower, same.upper) == (0, 0, 0)
    assert np.isnan(paired_gain(loss, loss / 2, np.zeros(100), 0.9, 200, 0).lower)
    assert np.isnan(paired_gain(loss, np.where(loss > 0.5, np.nan, 0), np.arange(100) % 10, 0.9, 200, 0).lower)


def test_binary_metrics_are_scikit_learns():
    rng = np.random.default_rng(0)
    outcome, said = rng.integers(0, 2, 500), rng.random(500).round(2)
    said[:3], outcome[:3] = [0.0, 1.0, 0.5], [0, 1, 1]
    found = measure(outcome, said, BINARY)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(outcome, said), rel=1e-12)
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(outcome, said))
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(outcome, said))
    assert found["brier"] == pytest.approx(((outcome - said) ** 2).mean())
    assert np.isnan(measure(np.zeros(5), np.full(5, 0.2), BINARY)["roc_auc"])
    assert all(np.isnan(v) for v in measure(np.zeros(5), np.full(5, np.nan), BINARY).values())
    assert all(np.isnan(v) for v in measure(np.empty(0), np.empty(0), BINARY).values())


def test_multiclass_metrics_are_scikit_learns():
    rng = np.random.default_rng(0)
    outcome, said = rng.integers(0, 3, 600), rng.dirichlet([1, 1, 1], 600)
    found = measure(outcome, said, CLASSES)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(outcome, said), rel=1e-9)
    assert found["accuracy"] == metrics.accuracy_score(outcome, said.argmax(axis=1))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(outcome, said.argmax(axis=1), average="macro"))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(outcome, said, multi_class="ovr", average="macro"))


def test_regression_metrics_are_scikit_learns():
    rng = np.random.default_rng(0)
    outcome = rng.normal(5, 2, 300)
    said = outcome + rng.normal(0.3, 1, 300)
    found = measure(outcome, said, NUMBER)
    assert found["squared_error"] == pytest.approx(metrics.mean_squared_error(outcome, said))
    assert found["absolute_error"] == pytest.approx(metrics.mean_absolute_error(outcome, said))
    assert found["r2"] == pytest.approx(metrics.r2_score(outcome, said))
    assert found["calibration_error"] == pytest.approx(abs((outcome - said).mean()) / outcome.std())
    absolute = NUMBER.model_copy(update={"loss": "absolute_error"})
    assert row_loss(outcome, said, absolute).mean() == pytest.approx(found["absolute_error"])


def test_calibration_error_is_nought_for_honest_and_the_shift_for_shifted_probabilities():
    rng = np.random.default_rng(0)
    said = rng.uniform(0.1, 0.8, 200_000)
    outcome = (rng.random(200_000) < said).astype(int)
    assert calibration_error(outcome, said, BINARY) < 0.005
    assert calibration_error(outcome, said + 0.1, BINARY) == pytest.approx(0.1, abs=0.005)
    assert calibration_error(outcome, np.full(200_000, outcome.mean()), BINARY) == pytest.approx(0, abs=1e-9)


def test_the_interval_of_auc_is_about_its_point_and_as_wide_as_delong_says_for_independent_rows():
    """With blocks of one row the bootstrap is an ordinary one; its width is held to Hanley and McNeil's formula (1982)."""
    rng = np.random.default_rng(0)
    outcome = np.repeat([0, 1], 400)
    said = rng.normal(outcome, 1).round(1)
    found = intervals(outcome, said, np.arange(800), BINARY, 400, 0)["roc_auc"]
    auc = metrics.roc_auc_score(outcome, said)
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    error = np.sqrt((auc * (1 - auc) + 399 * (q1 - auc**2) + 399 * (q2 - auc**2)) / (400 * 400))
    assert found.value == pytest.approx(auc)
    assert (found.upper - found.lower) / 2 == pytest.approx(1.96 * error, rel=0.15)


def test_intervals_of_losses_hold_95_percent():
    rng, held = np.random.default_rng(5), 0
    for run in range(200):
        outcome = rng.integers(0, 2, 400)
        said = np.full(400, 0.3)
        found = intervals(outcome, said, np.repeat(np.arange(40), 10), BINARY, 300, run)["log_loss"]
        truth = -(np.log(0.3) + np.log(0.7)) / 2
        held += found.lower <= truth <= found.upper
    assert held / 200 > 0.93


def test_intervals_stay_where_the_metric_can_be():
    """With few blocks and a long tail, studentised bounds go beyond 0 and 1."""
    rng = np.random.default_rng(0)
    outcome = np.r_[np.zeros(95), np.ones(5)]
    said = np.r_[rng.uniform(0, 0.1, 95), np.full(5, 0.001)]
    found = intervals(outcome, said, np.repeat(np.arange(4), 25), BINARY, 300, 0)
    assert (found["brier"].lower, found["log_loss"].lower) == (0, 0)
    assert found["brier"].value < found["brier"].upper <= 1
    alone = intervals(outcome, said, np.zeros(100), BINARY, 300, 0)["brier"]
    assert np.isnan([alone.lower, alone.upper]).all()


def test_block_sums_add_up():
    sums, rows = block_sums(np.array([1.0, 2, 3, 4]), np.array([7, 5, 7, 5]))
    assert (sums.tolist(), rows.tolist()) == ([6.0, 4.0], [2.0, 2.0])


def test_the_kinds_have_their_metrics():
    assert load_model("flights").config.target.judged_by == "log_loss"
    assert NUMBER.judged_by == "squared_error"
