"""All features together: joint changes that no column shows, and days of one month that are told apart by rows alone."""

import numpy as np
import pytest

from configs.load import load_model
from configs.monitoring import Monitoring, Multivariate
from tasks.drift.multivariate import auc_by_blocks, encoded, judged
from tasks.storage.blocks import block_names
from tests.tasks.drift.test_sketches import flights

RULES, WATCH = Multivariate(resamples=99), Monitoring()


def look(x: np.ndarray, blocks: np.ndarray, current: np.ndarray, resamples: int = 99):
    rules = RULES.model_copy(update={"resamples": resamples})
    return judged(x, np.asarray(blocks).astype(str), current, rules, WATCH, 0, "reference")


def test_a_joint_change_that_no_column_shows_is_found():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(1200, 2)), rng.normal(size=(600, 1))
    x = np.concatenate([one, np.column_stack([two, two + rng.normal(0, 0.3, (600, 1))]) / [1, 1.04]])
    current = np.arange(1800) >= 1200
    found = look(x, np.char.zfill((np.arange(1800) // 60).astype(str), 4), current, 39)
    assert found.drifted
    assert found.score > 0.7
    assert found.p_value == 1 / 40


def test_nothing_changed_is_no_drift_as_often_as_stated():
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.repeat(rng.normal(size=(16, 2)), 20, axis=0) + rng.normal(0, 0.3, (320, 2))
        side = np.isin(np.arange(16), rng.permutation(16)[:6])
        alarms += look(x, np.char.zfill(np.repeat(np.arange(16), 20).astype(str), 2), np.repeat(side, 20), 19).drifted
    assert alarms <= 4, "5 % are stated; five of twenty or more have a chance of 0.3 %"


def test_odd_against_even_days_of_one_month_of_flights_are_told_apart_by_rows_and_not_by_days():
    """The issue's own case: the weather of an hour identifies its day to whoever has seen other rows of it."""
    config = load_model("flights").config
    rows = flights("2013-03").iloc[::8]
    blocks = block_names(rows[config.time], "D", config.partition.timezone)
    odd = np.array([int(b[-2:]) % 2 == 1 for b in blocks])
    x = encoded([rows], config.features.all, config)
    single = np.random.default_rng(0).permutation(len(rows))
    by_rows = auc_by_blocks(x, single, odd[np.argsort(single)], 0)
    found = look(x, blocks, odd, 39)
    assert by_rows > 0.8 > found.score
    assert not found.drifted
    assert found.p_value > 0.05


@pytest.mark.parametrize("count", [1, 3])
def test_few_blocks_carry_no_signal_and_say_so(count):
    x, blocks = np.random.default_rng(0).normal(size=(100, 2)), np.char.zfill((np.arange(100) // 10).astype(str), 2)
    found = look(x, blocks, np.arange(100) >= 100 - 10 * count)
    assert not found.drifted
    assert found.note == f"not calibrated: {count} blocks against {10 - count}, 4 of each are needed"


def test_columns_without_a_value_and_infinities_are_no_trouble():
    config = load_model("flights").config
    rows = flights("2013-03").iloc[:500].assign(temp=np.nan, dewp=np.inf, carrier=None)
    x = encoded([rows, rows], config.features.all, config)
    assert x.shape == (1000, len(config.features.all) - 3)
    assert not np.isinf(x).any()
