"""The oracle's dynamic programming, compared with an enumeration of all schedules."""

from itertools import combinations

import numpy as np
import pytest

from tasks.replay.oracle import best_schedules, calendar_schedules, random_schedules


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


def losses(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return random losses of each training on each later partition, and rows."""
    rng = np.random.default_rng(seed)
    values = np.where(np.arange(size)[:, None] <= np.arange(size), rng.random((size, size)), np.nan)
    return values, rng.integers(1, 50, size).astype("float64")


def test_a_calendar_retrains_after_every_kth_partition():
    values, rows = losses(7)
    schedules = calendar_schedules(values, rows)
    assert [s.trainings for s in schedules] == [(1, 2, 3, 4, 5, 6), (2, 4, 6), (3, 6), (4,), (5,), (6,), ()]
    for schedule in schedules:
        assert schedule.mean == pytest.approx(schedule_mean(values, rows, schedule.trainings))


def test_after_a_failed_training_the_model_before_it_keeps_scoring():
    values, rows = losses(5)
    values[2] = np.nan
    every_2nd = calendar_schedules(values, rows)[1]
    assert every_2nd.trainings == (2, 4), "the failed training took its time"
    assert every_2nd.mean == pytest.approx(schedule_mean(values, rows, (4,)))


def test_random_schedules_are_all_schedules_with_that_many_retrainings():
    values, rows = losses(6)
    means = random_schedules(values, rows, 2, 4000, seed=1)
    expected = sorted(schedule_mean(values, rows, at) for at in combinations(range(1, 6), 2))
    found, times = np.unique(means.round(12), return_counts=True)
    assert found == pytest.approx(expected)
    assert times.min() > 4000 / 10 * 0.8, "each of the ten sets is equally probable"
    assert np.array_equal(means, random_schedules(values, rows, 2, 4000, seed=1))
    assert random_schedules(values, rows, 0, 3, 0) == pytest.approx([schedule_mean(values, rows, ())] * 3)
