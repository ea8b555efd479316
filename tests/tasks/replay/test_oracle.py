"""The oracle's dynamic programming, against trying every schedule."""

from itertools import combinations

import numpy as np
import pytest

from tasks.replay.oracle import best_schedules


def tried(values: np.ndarray, rows: np.ndarray, trainings: tuple[int, ...]) -> float:
    """The mean of a schedule, played by hand."""
    service, total = 0, 0.0
    for m in range(values.shape[1]):
        service = m if m in trainings else service
        total += values[service, m] * rows[m]
    return total / rows.sum()


@pytest.mark.parametrize("seed", range(8))
def test_it_finds_the_best_of_all_schedules_for_each_number_of_retrainings(seed):
    rng = np.random.default_rng(seed)
    size = 6
    values = np.where(np.arange(size)[:, None] <= np.arange(size), rng.random((size, size)), np.nan)
    rows = rng.integers(1, 50, size).astype("float64")
    found = {len(s.trainings): s for s in best_schedules(values, rows)}
    for count in range(size):
        best = min(tried(values, rows, picked) for picked in combinations(range(1, size), count))
        assert found[count].mean == pytest.approx(best)
        assert tried(values, rows, found[count].trainings) == pytest.approx(best)


def test_a_training_that_made_nothing_is_never_used_and_a_partition_without_outcomes_weighs_nothing():
    values = np.array(
        [[0.5, 0.9, np.nan, 0.9], [np.nan] * 4, [np.nan, np.nan, np.nan, 0.1], [np.nan, np.nan, np.nan, 0.2]]
    )
    found = {len(s.trainings): s for s in best_schedules(values, np.array([10.0, 10.0, 0.0, 10.0]))}
    assert found[0].mean == pytest.approx((0.5 + 0.9 + 0.9) / 3)
    assert found[1].trainings == (2,)
    assert found[1].mean == pytest.approx((0.5 + 0.9 + 0.1) / 3)
    assert all(1 not in s.trainings for s in found.values())
