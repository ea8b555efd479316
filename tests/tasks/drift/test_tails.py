"""The tail model is scipy's Pearson III."""

import numpy as np
import pytest
from scipy.stats import pearson3, skew

from tasks.drift.tails import Tail, beyond_the_others, exceeded, exceeding


@pytest.mark.parametrize("skewness", [-3.0, -0.4, 0.0, 1e-6, 0.3, 2.5, 8.0])
def test_probabilities_and_values_are_scipys(skewness):
    x = np.linspace(-4, 12, 200)
    said = exceeding(x, np.array(skewness), np.array(1.5), np.array(0.7))
    assert said == pytest.approx(pearson3.sf(x, skewness, 1.5, 0.7), rel=1e-9, abs=1e-300)
    for level in (0.5, 0.05, 1e-4):
        expected = pearson3.isf(level, skewness, 1.5, 0.7)
        assert exceeded(level, skewness, 1.5, 0.7) == pytest.approx(expected, rel=1e-6)
        back = exceeding(
            np.array(exceeded(level, skewness, 1.5, 0.7)), np.array(skewness), np.array(1.5), np.array(0.7)
        )
        assert back == pytest.approx(level, rel=1e-6)


def test_a_tail_has_the_moments_of_its_scores():
    scores = np.random.default_rng(0).gamma(2, 1, 500)
    tail = Tail(scores)
    assert (tail.mean, tail.spread, tail.skewness) == pytest.approx((scores.mean(), scores.std(), skew(scores)))
    assert tail.beyond(scores) == pytest.approx(
        pearson3.sf(scores, skew(scores), scores.mean(), scores.std()), rel=1e-9
    )


def test_each_score_is_held_against_the_tail_of_the_others():
    scores = np.random.default_rng(1).gamma(2, 1, 40)
    found = beyond_the_others(scores)
    for at in (0, 17, 39):
        others = Tail(np.delete(scores, at))
        assert found[at] == pytest.approx(float(others.beyond(scores[at : at + 1])[0]), rel=1e-6)


def test_scores_that_are_all_the_same_have_no_tail():
    tail = Tail(np.full(50, 0.2))
    assert tail.beyond(np.array([0.2, 0.3])).tolist() == [1.0, 0.0]
    assert tail.at(0.01) == pytest.approx(0.2)
