"""How much more a challenger breaks a limit than the champion, with bounds over days."""

import numpy as np
import pytest

from configs.load import load_model
from tasks.models.metrics import calibration_error
from tasks.training.excess import excess_bounds

DAYS, ROWS = 40, 50
BLOCKS: np.ndarray = np.repeat(np.arange(DAYS), ROWS)
TARGET = load_model("flights").config.target


def world(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and outcomes drawn from them."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.6, DAYS * ROWS)
    return truth, (rng.random(len(truth)) < truth).astype(int)


def test_the_bounds_of_a_mean_are_those_of_student():
    """For a mean over blocks of equal size the difference of daily means gives Student's bounds directly."""
    rng = np.random.default_rng(0)
    theirs, mine = rng.normal(size=(2, DAYS * ROWS))
    bounds = excess_bounds(lambda p, at: float(p[at].mean()), (theirs, mine), BLOCKS, 0.9, 0)
    daily = (mine - theirs).reshape(DAYS, ROWS).mean(axis=1)
    error = daily.std(ddof=1) / DAYS**0.5
    assert bounds.value == pytest.approx(daily.mean())
    assert bounds.upper - bounds.value == pytest.approx(1.304 * error, rel=0.15)  # t of 39 degrees at 90 %
    wider = excess_bounds(lambda p, at: float(p[at].mean()), (theirs, mine), BLOCKS, 0.9, 0, factor=2.0)
    assert wider.upper - wider.value == pytest.approx(2 * (bounds.upper - bounds.value))


def test_a_worse_calibration_is_worse_beyond_chance_and_an_equal_one_is_not():
    truth, outcome = world(1)
    off = np.clip(truth + 0.15, 0, 1)

    def error(p: np.ndarray, at: np.ndarray) -> float:
        return calibration_error(outcome[at], p[at], TARGET)

    further = excess_bounds(error, (off, np.clip(truth + 0.25, 0, 1)), BLOCKS, 0.9, 0)
    assert further.value == pytest.approx(0.1, abs=0.02)
    assert further.lower > 0
    other = np.clip(off + np.random.default_rng(2).normal(0, 0.02, len(off)), 0, 1)
    assert excess_bounds(error, (off, other), BLOCKS, 0.9, 0).lower <= 0
    better = excess_bounds(error, (off, truth), BLOCKS, 0.9, 0)
    assert better.upper < 0


def test_one_block_has_no_bounds():
    truth, outcome = world(3)
    one = excess_bounds(lambda p, at: float((p[at] - outcome[at]).mean()), (truth, truth + 0.1), BLOCKS * 0, 0.9, 0)
    assert one.value == pytest.approx(0.1)
    assert np.isnan([one.lower, one.upper]).all()
