"""Intervals of estimated losses cover the realised loss, with what was known at the time of the estimate."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from configs.features import Features
from configs.target import Target
from tasks.contracts import Period, Promotion, Record, Stage
from tasks.lifecycle.estimates import EstimationError, estimate_interval, known_errors, validation_errors
from tasks.steps.estimate import predict_loss

START = datetime(2024, 1, 1, tzinfo=UTC)
SQUARED = Target(column="y", delay="1D", kind="regression")
RES = SimpleNamespace(config=SimpleNamespace(target=SQUARED))


def week(n: int) -> datetime:
    return START + timedelta(weeks=n)


def record(n: int, value: float | None) -> Record:
    """The estimate of the n-th week, as of its end."""
    data = {"version": "3", "metrics": {"squared_error": value}, "blocks": [[7 * n + d, 50, 50.0] for d in range(7)]}
    return Record("m", Stage.ESTIMATES, f"w{n:02d}", week(n + 1), 1, "done", 0, "", {}, data)


def staged(*errors: float) -> Promotion:
    """A version with a fortnight of validation for each error, of which the first has no estimate."""
    blocks = [[d, 50, 100.0] for d in range(14)]
    estimated: list[list[float]] = [[], *([100.0 - 50 * e] * 14 for e in errors)]
    periods = [{"blocks": blocks, "outcomes": [], "estimated": sums} for sums in estimated]
    return Promotion("m", 1, "stage", "3", None, START, START, "evergreen", "", {"references": periods})


def test_only_errors_that_had_matured_by_the_estimate_count_and_not_the_partitions_own():
    """Labels take two weeks."""
    errors = [EstimationError(f"w{n:02d}", week(n + 3), n / 10) for n in range(8)]
    assert known_errors(record(5, 1.0), errors) == [0.0, 0.1, 0.2, 0.3]
    assert known_errors(record(1, 1.0), [EstimationError("w01", week(2), 9.0)]) == []


def test_a_validation_split_gives_an_error_for_each_part_as_long_as_the_partition():
    period = Period(tuple((d, 10, 10.0 + (d >= 7)) for d in range(14)), (), (10.0,) * 14)
    assert validation_errors([Period(period.blocks), period], 7) == pytest.approx([0.0, 0.1])
    assert validation_errors([period], 30) == pytest.approx([0.05])


def test_the_interval_is_students_prediction_interval_about_no_error():
    errors = [EstimationError(f"w{n:02d}", week(n + 1), e) for n, e in enumerate((0.3, -0.1))]
    low, high = estimate_interval(record(2, 1.0), errors, [staged(0.2)], RES)
    squares = np.array([0.2, 0.2, 0.3, -0.1]) ** 2
    half = t.ppf(0.975, 3) * (squares.mean() * (1 + 1 / 3)) ** 0.5  # the two parts of the split are one error
    assert (low, high) == pytest.approx((1 - half, 1 + half))
    assert estimate_interval(record(2, 0.01), errors, [staged(0.2)], RES)[0] == 0
    assert estimate_interval(record(2, None), errors, [], RES) is None
    assert estimate_interval(record(0, 1.0), errors, [], RES) is None, "there are no errors yet"


def rows(rng: np.random.Generator, level: float, count: int) -> pd.DataFrame:
    """Rows with a prediction of 0. The outcome's noise grows with x, and with `level`, which no feature shows."""
    x = rng.normal(0, 1, count)
    return pd.DataFrame({"x": x, "prediction": 0.0, "y": rng.normal(0, 1, count) * np.exp(level + 0.3 * x)})


def test_intervals_of_a_regression_cover_from_the_first_week_although_the_noise_moves():
    """95 % are stated. Three weeks, the first without an estimate, come before each weekly partition of the first version."""
    config = SimpleNamespace(
        target=SQUARED, training=SimpleNamespace(seed=0), features=Features(numeric=("x",), categorical=())
    )
    rng, covered = np.random.default_rng(1), []
    for _ in range(3):
        level = np.zeros(34)
        for n in range(1, len(level)):
            level[n] = 0.7 * level[n - 1] + rng.normal(0, 0.15)
        weeks = [rows(rng, value, 350) for value in level]
        known, errors = [], []
        for n in range(1, len(weeks)):
            labelled = weeks[n - 1] if n < 4 else weeks[3]
            value = float(predict_loss(weeks[n].drop(columns="y"), labelled, config).mean())
            realised = float((weeks[n]["y"] ** 2).mean())
            if n < 4:
                known.append(realised - value)
                continue
            low, high = estimate_interval(record(n, value), errors, [staged(*known)], RES)
            covered.append(low <= realised <= high)
            errors.append(EstimationError(f"w{n:02d}", week(n + 1), realised - value))
    assert np.mean(covered) >= 0.85
