"""The drift check keeps its error rate for days that resemble their neighbours."""

import numpy as np
import pandas as pd
import pytest

from configs.monitoring import Method
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, check
from tasks.drift.block_series import column_series, measure, share_series
from tasks.drift.sketches import Sketch, sketch

NAMES = ("a", "b", "c")
METHODS = dict.fromkeys(NAMES, Method(method="wasserstein", threshold=1e-6))


def ar_days(seed: int, days: int, rho: float, rows: int = 15) -> Sketch:
    """Rows of days whose levels are an AR(1) series, written out by its recursion."""
    rng = np.random.default_rng(seed)
    level = np.zeros((3, days))
    level[:, 0] = rng.normal(size=3)
    for t in range(1, days):
        level[:, t] = rho * level[:, t - 1] + (1 - rho**2) ** 0.5 * rng.normal(size=3)
    day = np.repeat(np.arange(days), rows)
    values = {n: (level[at, day] + rng.normal(0, 0.5, len(day))).round(1) for at, n in enumerate(NAMES)}
    return sketch(pd.DataFrame(values), np.array([f"{d:03d}" for d in day]), NAMES, ())


@pytest.mark.long
def test_the_rate_of_any_false_alarm_stays_close_to_alpha():
    """5 % are stated. For independent days, 30 % of these checks raise an alarm: 12 of 40 against the 8 that are allowed here."""
    alarms, effects = 0, dict.fromkeys((MISSING, NEW, OUTSIDE), 1.1)
    for seed in range(60):
        pooled = ar_days(seed, 80, 0.6)
        sides = pooled.select_blocks(range(60)), pooled.select_blocks(range(60, 80))
        alarms += any(a.drifted for a in check(*sides, METHODS, effects, alpha=0.05, resamples=200, seed=seed).alarms)
    assert alarms <= 8


def test_the_series_of_a_shifted_column_is_proportional_to_its_level():
    """The first principal component of distribution functions orders days as their means do."""
    pooled = ar_days(0, 40, 0.6, rows=200)
    column = pooled.columns["a"]
    series = column_series(column, np.arange(len(column.values)), "wasserstein")
    means = column.counts @ column.values / 200
    assert abs(np.corrcoef(series.values, means)[0, 1]) > 0.98
    assert (series.noise > 0).all()
    assert series.noise.mean() == pytest.approx(0.25 / 200 * series.values.var() / means.var(), rel=0.3)


def test_the_noise_of_a_share_is_binomial():
    series = share_series(np.array([1, 0, 5]), np.array([10, 1, 5]))
    assert series.values.tolist() == [0.1, 0.0, 1.0]
    assert series.noise.tolist() == pytest.approx([0.1 * 0.9 / 9, 0.0, 0.0])


def test_runs_are_longer_for_larger_autocorrelation():
    lengths = []
    for rho in (0.0, 0.3, 0.8):
        pooled = ar_days(1, 200, rho)
        series = [column_series(c, np.arange(len(c.values)), "wasserstein") for c in pooled.columns.values()]
        lengths.append(measure(series, pooled.rows, np.arange(200) >= 150).run_length())
    assert lengths[0] <= 3 < lengths[1] < lengths[2]
