"""The mean of periods with the spread between them, and where a further period may lie."""

import numpy as np
import pytest
from scipy.stats import t

from tasks.models.random_effects import Pooled, pool


def test_with_equal_variances_the_spread_between_periods_is_what_exceeds_them():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    pooled = pool(values, np.full(4, 0.5))
    assert pooled.mean == pytest.approx(3)
    assert pooled.between == pytest.approx(values.var(ddof=1) - 0.5)
    assert pooled.variance == pytest.approx(values.var(ddof=1) / 4)
    assert pool(values, np.full(4, 99.0)).between == 0


def test_a_further_period_has_students_distribution_if_only_the_spread_between_periods_counts():
    """The textbook's prediction interval of a further value."""
    values = np.array([1.0, 2.0, 4.0, 5.0])
    half = pool(values, np.full(4, 1e-9)).prediction_error(1e-9, 100, 0.975)
    assert half == pytest.approx(t.ppf(0.975, 3) * values.std(ddof=1) * 1.25**0.5, rel=1e-4)
    assert Pooled(0.0, 1.0, 0.0, 1).prediction_error(1.0, 10, 0.975) == float("inf")
