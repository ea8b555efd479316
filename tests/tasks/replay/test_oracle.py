"""The oracle's dynamic programming, compared with an enumeration of all schedules."""

from itertools import combinations

import numpy as np
import pytest

from tasks.replay.oracle import best_schedules


def schedule_mean(values: np.ndarray, rows: np.ndarray, trainings: tuple[int, ...]) -> float:
    """Return the mean of the metric under a schedule."""
    current, total = 0, 0.0
    for m in range(values.shape[1]):
        current = m if m in trainings else current
        total += values[current, m] * rows[m]
    return total / rows.sum()


@pytest.mark.parametrize("seed", range(8))
def test_the_best_schedule_for_each_number_of_retrainings(seed):
    rng = np.random.default_rng(seed)
    size = 6
    values = np.where(np.arange(size)[:, None] <= np.arange(size), rng.random((size, size)), np.nan)
    rows = rng.integers(1, 50, size).astype("float64")
    schedules = {len(s.trainings): s for s in best_schedules(values, rows)}
    for count in range(size):
        best = min(schedule_mean(values, rows, trainings) for trainings in combinations(range(1, size), count))
        assert schedules[count].mean == pytest.approx(best)
        assert schedule_mean(values, rows, schedules[count].trainings) == pytest.approx(best)


def test_failed_trainings_are_not_used_and_partitions_without_outcomes_have_no_weight():
    values = np.array(
        [[0.5, 0.9, np.nan, 0.9], [np.nan] * 4, [np.nan, np.nan, np.nan, 0.1], [np.nan, np.nan, np.nan, 0.2]]
    )
    schedules = {len(s.trainings): s for s in best_schedules(values, np.array([10.0, 10.0, 0.0, 10.0]))}
    assert schedules[0].mean == pytest.approx((0.5 + 0.9 + 0.9) / 3)
    assert schedules[1].trainings == (2,)
    assert schedules[1].mean == pytest.approx((0.5 + 0.9 + 0.1) / 3)
    assert all(1 not in s.trainings for s in schedules.values())
