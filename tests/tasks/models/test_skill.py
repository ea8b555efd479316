"""Skill: the loss as a share of that of the rows' own best constant prediction."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from configs.target import Target
from tasks.models.metrics import row_loss
from tasks.models.skill import prior_losses, relative_loss, summarise_outcomes
from tasks.models.targets import predict_prior, prior_of

TARGETS = [
    Target(column="y", delay="1D"),
    Target(column="y", delay="1D", kind="multiclass", classes=("a", "b", "c")),
    Target(column="y", delay="1D", kind="regression"),
    Target(column="y", delay="1D", kind="regression", loss="absolute_error"),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.kind} {t.eval_loss}")
def test_the_prior_of_pooled_blocks_is_that_of_their_rows(target):
    """From the summaries of the blocks alone. Blocks differ in their base rate or mean, and one has three rows."""
    rng = np.random.default_rng(0)
    blocks = np.concatenate([rng.integers(3, 9, 4000), [9, 9, 9]])
    if target.kind == "regression":
        outcome = rng.gamma(2, 3, len(blocks)) + blocks + 1e6
    else:
        outcome = (rng.random(len(blocks)) < blocks / 20).astype(int) + (target.kind == "multiclass") * rng.integers(
            0, 2, len(blocks)
        )
    rows = np.unique(blocks, return_counts=True)[1].astype(float)
    expected = row_loss(outcome, predict_prior(prior_of(outcome, target), len(outcome), target), target)
    losses = prior_losses(rows, summarise_outcomes(outcome, blocks, target), target)
    assert losses.sum() == pytest.approx(expected.sum(), rel=2e-3)
    by_block = [expected[blocks == b].sum() for b in np.unique(blocks)]
    assert losses == pytest.approx(by_block, rel=0.1 if target.eval_loss == "absolute_error" else 1e-9)


def test_the_skill_of_squared_error_is_r_squared_and_the_linearised_blocks_have_its_mean():
    rng, target = np.random.default_rng(1), TARGETS[2]
    blocks, outcome = rng.integers(0, 10, 3000), rng.normal(5, 2, 3000)
    predicted = outcome + rng.normal(0, 1, 3000)
    losses = np.bincount(blocks, weights=row_loss(outcome, predicted, target))
    rows = np.bincount(blocks).astype(float)
    share, sums = relative_loss(rows, losses, summarise_outcomes(outcome, blocks, target), target)
    assert 1 - share == pytest.approx(r2_score(outcome, predicted))
    assert sums.sum() / rows.sum() == pytest.approx(share)


def test_rows_of_one_class_have_no_skill():
    target = TARGETS[0]
    share, sums = relative_loss(np.array([5.0]), np.array([1.0]), [[0.0]], target)
    assert np.isnan(share)
    assert np.isnan(sums).all()
