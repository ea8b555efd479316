"""Multivariate drift: joint changes that no single column shows, and folds of whole days instead of rows."""

import numpy as np
import pytest

from configs.load import load_model
from configs.monitoring import Monitoring, Multivariate
from tasks.drift.multivariate import auc_by_blocks, domain_classifier_drift, encode_features
from tasks.storage.blocks import block_names
from tests.tasks.drift.test_sketches import flights

RULES = Multivariate(resamples=99)


def drift(x: np.ndarray, blocks: np.ndarray, is_current: np.ndarray, resamples: int = 99):
    rules = RULES.model_copy(update={"resamples": resamples})
    return domain_classifier_drift(x, np.asarray(blocks).astype(str), is_current, rules, Monitoring(), 0, "reference")


@pytest.mark.long
def test_a_joint_change_that_no_column_shows_is_detected():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(1200, 2)), rng.normal(size=(600, 1))
    x = np.concatenate([one, np.column_stack([two, two + rng.normal(0, 0.3, (600, 1))]) / [1, 1.04]])
    is_current = np.arange(1800) >= 1200
    result = drift(x, np.char.zfill((np.arange(1800) // 60).astype(str), 4), is_current, 39)
    assert result.drifted
    assert result.score > 0.7
    assert result.p_value == 1 / 40


@pytest.mark.slow
def test_the_rate_of_false_alarms_is_alpha():
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.repeat(rng.normal(size=(16, 2)), 20, axis=0) + rng.normal(0, 0.3, (320, 2))
        side = np.isin(np.arange(16), rng.permutation(16)[:6])
        alarms += drift(x, np.char.zfill(np.repeat(np.arange(16), 20).astype(str), 2), np.repeat(side, 20), 19).drifted
    assert alarms <= 4, "alpha is 5 %: five or more of twenty have a probability of 0.3 %"


@pytest.mark.slow
def test_odd_and_even_days_of_one_month_are_separable_with_folds_of_rows_and_not_with_folds_of_days():
    """The weather of an hour identifies its day to a classifier that was fitted on other rows of that day."""
    config = load_model("flights").config
    rows = flights("2013-03").iloc[::8]
    blocks = block_names(rows[config.time], "D", config.partition.timezone)
    odd = np.array([int(b[-2:]) % 2 == 1 for b in blocks])
    x = encode_features([rows], config.features.all, config)
    single = np.random.default_rng(0).permutation(len(rows))
    by_rows = auc_by_blocks(x, single, odd[np.argsort(single)], 0)
    result = drift(x, blocks, odd, 39)
    assert by_rows > 0.8 > result.score
    assert not result.drifted
    assert result.p_value > 0.05


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_blocks_give_no_score_and_a_note(count):
    x, blocks = np.random.default_rng(0).normal(size=(100, 2)), np.char.zfill((np.arange(100) // 10).astype(str), 2)
    result = drift(x, blocks, np.arange(100) >= 100 - 10 * count)
    assert not result.drifted
    assert result.note == f"not calibrated: {count} current and {10 - count} reference blocks, 4 of each are needed"


def test_columns_without_a_finite_value_are_left_out():
    config = load_model("flights").config
    rows = flights("2013-03").iloc[:500].assign(temp=np.nan, dewp=np.inf, carrier=None)
    x = encode_features([rows, rows], config.features.all, config)
    assert x.shape == (1000, len(config.features.all) - 3)
    assert not np.isinf(x).any()
