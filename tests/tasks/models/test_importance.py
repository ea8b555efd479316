"""What a model makes of each feature, held against scikit-learn's permutation importance."""

import numpy as np
import pytest
from sklearn.inspection import permutation_importance

from tasks.contracts import Recipe
from tasks.models.features import inputs_of
from tasks.models.importance import SAMPLE, importances
from tasks.training.splits import fit
from tests.tasks.models.test_estimators import config, resources, rows


@pytest.mark.parametrize("estimator", ["xgboost", "logistic_regression"])
def test_importances_are_the_rise_in_loss_that_scikit_learn_finds(estimator):
    made, data = config(), rows(count=1500)
    model = fit(Recipe("x", estimator, {}), data, resources(made))
    found = importances(model, data, made)
    inputs, outcome = inputs_of(data, made.features), data[made.target.column]
    theirs = permutation_importance(model, inputs, outcome, scoring="neg_log_loss", n_repeats=30, random_state=0)
    assert list(found) == list(made.features.all)
    assert len(data) < SAMPLE
    for at, name in enumerate(inputs.columns):
        chance = 4 * theirs.importances_std[at] + 1e-4
        assert abs(found[name] - theirs.importances_mean[at]) < chance, name


def test_a_feature_that_a_model_does_not_use_is_worth_nothing():
    made, data = config(), rows(count=600)
    idle = data.assign(b=1.0)
    model = fit(Recipe("x", "xgboost", {}), idle, resources(made))
    found = importances(model, idle.assign(b=np.arange(600.0)), made)
    assert found["b"] == 0
    assert max(found.values()) > 0
