"""Permutation importances, compared with those of scikit-learn."""

import numpy as np
import pytest
from sklearn.inspection import permutation_importance

from tasks.contracts import Recipe
from tasks.models.features import inputs_of
from tasks.models.importance import SAMPLE, importances
from tasks.training.splits import fit
from tests.tasks.models.test_estimators import config, resources, rows

pytestmark = pytest.mark.long


@pytest.mark.parametrize("estimator", ["xgboost", "logistic_regression"])
def test_importances_agree_with_those_of_scikit_learn(estimator):
    cfg, data = config(), rows(count=1500)
    model = fit(Recipe("x", estimator, {}), data, resources(cfg))
    actual = importances(model, data, cfg)
    inputs, outcome = inputs_of(data, cfg.features), data[cfg.target.column]
    expected = permutation_importance(model, inputs, outcome, scoring="neg_log_loss", n_repeats=30, random_state=0)
    assert list(actual) == list(cfg.features.all)
    assert len(data) < SAMPLE
    for at, name in enumerate(inputs.columns):
        tolerance = 4 * expected.importances_std[at] + 1e-4
        assert abs(actual[name] - expected.importances_mean[at]) < tolerance, name


def test_a_feature_that_a_model_does_not_use_has_no_importance():
    cfg, data = config(), rows(count=600)
    constant = data.assign(b=1.0)
    model = fit(Recipe("x", "xgboost", {}), constant, resources(cfg))
    actual = importances(model, constant.assign(b=np.arange(600.0)), cfg)
    assert actual["b"] == 0
    assert max(actual.values()) > 0
