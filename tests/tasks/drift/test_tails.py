"""The tail model equals SciPy's Pearson III."""

import numpy as np
import pytest
from scipy.stats import pearson3, skew

from tasks.drift.tails import Tail, leave_one_out_sf, pearson3_isf, pearson3_sf


@pytest.mark.parametrize("skewness", [-3.0, -0.4, 0.0, 1e-6, 0.3, 2.5, 8.0])
def test_survival_function_and_its_inverse_equal_scipys(skewness):
    x = np.linspace(-4, 12, 200)
    probabilities = pearson3_sf(x, np.array(skewness), np.array(1.5), np.array(0.7))
    assert probabilities == pytest.approx(pearson3.sf(x, skewness, 1.5, 0.7), rel=1e-9, abs=1e-300)
    for level in (0.5, 0.05, 1e-4):
        expected = pearson3.isf(level, skewness, 1.5, 0.7)
        assert pearson3_isf(level, skewness, 1.5, 0.7) == pytest.approx(expected, rel=1e-6)
        inverted = pearson3_sf(
            np.array(pearson3_isf(level, skewness, 1.5, 0.7)), np.array(skewness), np.array(1.5), np.array(0.7)
        )
        assert inverted == pytest.approx(level, rel=1e-6)


def test_a_tail_has_the_moments_of_its_scores():
    scores = np.random.default_rng(0).gamma(2, 1, 500)
    tail = Tail(scores)
    assert (tail.mean, tail.std, tail.skewness) == pytest.approx((scores.mean(), scores.std(), skew(scores)))
    assert tail.sf(scores) == pytest.approx(pearson3.sf(scores, skew(scores), scores.mean(), scores.std()), rel=1e-9)


def test_each_score_is_compared_with_the_tail_of_the_others():
    scores = np.random.default_rng(1).gamma(2, 1, 40)
    probabilities = leave_one_out_sf(scores)
    for at in (0, 17, 39):
        others = Tail(np.delete(scores, at))
        assert probabilities[at] == pytest.approx(float(others.sf(scores[at : at + 1])[0]), rel=1e-6)


def test_equal_scores_have_no_tail():
    tail = Tail(np.full(50, 0.2))
    assert tail.sf(np.array([0.2, 0.3])).tolist() == [1.0, 0.0]
    assert tail.isf(0.01) == pytest.approx(0.2)
