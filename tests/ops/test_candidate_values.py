"""`make lint` finds values of parameters that an estimator refuses."""

from pathlib import Path
from typing import Any

import pytest

from configs.load import load_model
from configs.schema import ModelConfig
from configs.training import Candidate
from ops.candidate_values import unfit_parameters

PATH = Path("configs/x/model.yaml")


def with_candidate(**candidate: Any) -> ModelConfig:
    config = load_model("electricity").config
    training = config.training.model_copy(update={"candidates": {"mine": Candidate(**candidate)}})
    return config.model_copy(update={"training": training})


REFUSED = {
    "a negative depth": (
        {"estimator": "xgboost", "params": {"max_depth": -3}},
        "candidates.mine.params.max_depth: -3: ",
    ),
    "a share above one": ({"estimator": "xgboost", "params": {"subsample": 1.5}}, "subsample"),
    "text for a number": (
        {"estimator": "xgboost", "params": {"learning_rate": "fast"}},
        "params.learning_rate: 'fast': ",
    ),
    "no trees": ({"estimator": "random_forest", "params": {"n_estimators": 0}}, "n_estimators"),
    "an unknown solver": ({"estimator": "logistic_regression", "params": {"solver": "best"}}, "solver"),
    "a bound of the search": (
        {"estimator": "xgboost", "search": {"space": {"subsample": {"low": 0.5, "high": 1.2}}}},
        "candidates.mine.search.space.subsample: 1.2: ",
    ),
    "a choice of the search": (
        {"estimator": "logistic_regression", "search": {"space": {"C": [1.0, -1.0]}}},
        "candidates.mine.search.space.C: -1.0: ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_value_that_the_estimator_refuses_is_a_problem(case: str) -> None:
    candidate, text = REFUSED[case]
    (problem,) = unfit_parameters(with_candidate(**candidate), PATH)
    assert problem.startswith("configs/x/model.yaml: training.candidates.mine.")
    assert text in problem


@pytest.mark.parametrize("name", ["electricity", "electricity_settled", "flights"])
def test_the_models_of_this_repository_have_none(name: str) -> None:
    assert list(unfit_parameters(load_model(name).config, PATH)) == []
