"""The change of the loss by one column's shift is the true one if the loss depends on that column, and zero within its error if not."""

import numpy as np
import pandas as pd
import pytest

from tasks.drift.loss_change import loss_change
from tasks.drift.sketches import Column, sketch

DAYS, ROWS = 14, 200


def partition(values: np.ndarray, text: bool = False) -> Column:
    frame = pd.DataFrame({"x": values})
    return sketch(frame, np.full(len(frame), "0"), ["x"], ["x"] if text else []).columns["x"]


def holdout(seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Rows in which the loss rises by 0.1 for each unit of `matters`, with a random level for each day."""
    rng, n = np.random.default_rng(seed), DAYS * ROWS
    day = np.repeat(np.arange(DAYS), ROWS)
    frame = pd.DataFrame({"matters": rng.uniform(0, 2, n), "idle": rng.uniform(0, 2, n)})
    return frame, 0.4 + 0.1 * frame["matters"].to_numpy() + rng.normal(0, 0.05, DAYS)[day] + rng.normal(0, 0.3, n), day


def test_a_shift_of_the_column_that_matters_changes_the_loss_by_its_slope_and_that_of_the_other_by_nothing():
    """Uniform on 0 to 2 has the mean 1, triangular with its mode at 2 has 4/3: the loss rises by 0.1 / 3."""
    values = 2 * np.sqrt(np.random.default_rng(0).uniform(size=50_000))
    results = {"matters": [], "idle": []}
    for seed in range(200):
        frame, losses, day = holdout(seed)
        for name, changes in results.items():
            changes.append(loss_change(frame[name], losses, day, partition(values)))
    for name, truth in (("matters", 0.1 / 3), ("idle", 0.0)):
        changes, errors = (np.array([getattr(r, k) for r in results[name]]) for k in ("value", "error"))
        assert changes.mean() == pytest.approx(truth, abs=3 * changes.std() / 200**0.5 + 0.001), "bins cost little"
        assert errors.mean() == pytest.approx(changes.std(), rel=0.2)
        assert (np.abs(changes - truth) > 2 * errors).mean() < 0.12


def test_categories_are_weighted_by_their_share_and_nulls_are_a_category():
    city = np.tile(np.array(["Bonn", "Kiel", None, "Bonn"], object), 200)
    losses = np.where(city == "Bonn", 1.0, np.where(city == "Kiel", 2.0, 4.0))
    days = np.arange(800) // 80
    shifted = np.array(["Bonn"] * 10 + ["Kiel"] * 30 + [None] * 60, object)
    change = loss_change(pd.Series(city), losses, days, partition(shifted, text=True))
    assert change.value == pytest.approx((0.1 * 1 + 0.3 * 2 + 0.6 * 4) - 2.0)


@pytest.mark.parametrize(
    ("values", "text"),
    [(np.r_[np.full(90, 1.0), np.full(10, 7.0)], False), (np.array(["a"] * 9 + ["new"], object), True)],
    ids=["numbers outside of the holdout's range", "a new category"],
)
def test_the_change_is_unknown_where_the_holdout_has_no_such_rows(values, text):
    labelled = pd.Series(["a", "b"] * 500) if text else pd.Series(np.linspace(0, 2, 1000))
    change = loss_change(labelled, np.ones(1000), np.arange(1000) // 100, partition(values, text))
    assert (change.value, change.note) == (None, "unknown: the holdout has too few rows like 10% of the partition's")
