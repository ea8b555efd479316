"""The gate's rule, and the statistics behind it against independent ones."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss

from configs.schema import Gate
from tasks.contracts import Comparison, Interval, Scorecard
from tasks.evaluation import NO_CHAMPION, paired_gain, row_loss
from tasks.promotion import judge

GATE = Gate(max_loss=0.6, min_gain=0.0)


def card(version: str, loss: float) -> Scorecard:
    return Scorecard(version, 1000, {"log_loss": loss})


def comparison(loss=0.5, prior=0.55, champion=0.52, lower=0.01, impossible="") -> Comparison:
    gain = None if impossible else Interval(champion - loss, lower, 0.05)
    other = None if champion is None else card("1", champion)
    return Comparison(card("2", loss), other, card("prior", prior), gain, 14, impossible)


def failed(decision) -> list[str]:
    return [v.rule.split(":")[0] for v in decision.verdicts if not v.passed]


def test_a_better_challenger_passes_and_every_rule_has_its_numbers():
    decision = judge(comparison(), GATE)
    assert decision.passed
    assert [(v.value, v.threshold) for v in decision.verdicts] == [(0.5, 0.6), (0.5, 0.55), (0.01, 0.0)]
    assert (decision.version, decision.against) == ("2", "1")


def test_a_first_model_needs_only_the_floor_and_the_prior():
    first = Comparison(card("1", 0.5), None, card("prior", 0.55), None, 14, NO_CHAMPION)
    assert judge(first, GATE).passed
    assert not judge(Comparison(card("1", 0.56), None, card("prior", 0.55), None, 14, NO_CHAMPION), GATE).passed


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"loss": 0.61, "prior": 0.7}, "floor"),
        ({"prior": 0.49}, "better than the prior"),
        ({"prior": 0.5}, "better than the prior"),
        ({"lower": 0.0}, "gain over the champion, lower bound"),
        ({"lower": float("nan")}, "gain over the champion, lower bound"),
        ({"impossible": "the champion has seen the holdout"}, "gain over the champion, lower bound"),
    ],
)
def test_one_failed_rule_refuses_and_is_named(given, rule):
    decision = judge(comparison(**given), GATE)
    assert not decision.passed
    assert failed(decision) == [rule]
    assert any(rule in reason for reason in decision.reasons)


def test_a_loss_that_is_no_number_fails_every_rule_about_it():
    assert failed(judge(comparison(loss=float("nan")), GATE)) == ["floor", "better than the prior"]


def test_row_loss_is_scikit_learns_log_loss():
    rng = np.random.default_rng(0)
    outcome, prediction = rng.integers(0, 2, 500), rng.random(500)
    prediction[:3], outcome[:3] = [0.0, 1.0, 0.5], [0, 1, 1]
    assert row_loss(outcome, prediction).mean() == pytest.approx(log_loss(outcome, prediction), rel=1e-12)


def test_paired_gain_agrees_with_scipys_bootstrap_over_equal_blocks():
    rng = np.random.default_rng(1)
    days = np.repeat(np.arange(30), 50)
    mine = rng.normal(0.5, 0.1, 1500)
    theirs = mine + 0.02 + np.repeat(rng.normal(0, 0.03, 30), 50)
    got = paired_gain(theirs, mine, days, 0.9, 20_000, 0)
    by_day = (theirs - mine).reshape(30, 50).mean(axis=1)
    expected = stats.bootstrap((by_day,), np.mean, confidence_level=0.8, n_resamples=20_000, method="percentile", rng=1)
    assert got.value == pytest.approx(by_day.mean())
    assert got.lower == pytest.approx(expected.confidence_interval.low, abs=4e-4)
    assert got.upper == pytest.approx(expected.confidence_interval.high, abs=4e-4)


def test_paired_gain_weighs_rows_alike_where_blocks_differ_in_size():
    theirs, mine = np.array([1.0, 1.0, 1.0, 0.0]), np.zeros(4)
    assert paired_gain(theirs, mine, np.array([0, 0, 0, 1]), 0.9, 200, 0).value == pytest.approx(0.75)


def test_whole_days_widen_the_interval_that_rows_would_give():
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(14), 500)
    noise = np.repeat(rng.normal(0, 0.05, 14), 500)
    by_day, by_row = (paired_gain(noise, np.zeros(7000), b, 0.9, 2000, 0) for b in (days, np.arange(7000)))
    assert by_day.upper - by_day.lower > 5 * (by_row.upper - by_row.lower)
