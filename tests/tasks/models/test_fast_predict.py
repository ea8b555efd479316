"""A model's plan says what the model says, to the bit, whatever the estimator, the calibration and the rows."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import skops.io

from configs.features import Features
from tasks.contracts import Recipe
from tasks.errors import MissingFeature
from tasks.models.calibration import calibrated, response
from tasks.models.estimators import build_pipeline, read_model
from tasks.models.fast_predict import NoPlan, _trees, features_of, plan_of
from tasks.models.features import inputs_of, predict
from tasks.models.fingerprint import model_digest
from tasks.models.smoke_test import sorts_of
from tasks.models.targets import outcomes
from tasks.training.splits import fit
from tests.tasks.models.test_estimators import WAYS, config, resources, rows


def fitted(estimator, kind, calibration):
    made, data = config(kind), rows(kind)
    model = fit(Recipe("x", estimator, {}), data, resources(made))
    if calibration == "none":
        return made, data, model
    answered = response(model, inputs_of(data, made.features))
    return made, data, calibrated(model, answered, outcomes(data, made.target), calibration)


def as_it_is(model, frame, made):
    """What the model itself says."""
    inputs = inputs_of(frame, made.features)
    if made.target.kind == "regression":
        return model.predict(inputs).astype("float64")
    said = model.predict_proba(inputs).astype("float64")
    return said[:, 1] if made.target.kind == "binary" else said


@pytest.mark.parametrize(("estimator", "kind", "calibration"), WAYS)
def test_a_plan_says_the_same_to_the_bit(estimator, kind, calibration):
    made, data, model = fitted(estimator, kind, calibration)
    sorts = sorts_of(data, made.features) | {
        "text of Arrow": data.astype({"c": "str"}),
        "categories": data.astype({"c": "category"}),
        "numbers in a category": data.assign(c=7),
        "whole numbers with nulls": data.assign(a=pd.array([1, None] * 300, dtype="Int64")),
        "truths": data.assign(b=data["b"] > 0.5),
        "infinities": data.assign(a=np.where(data["b"] > 0.5, np.inf, -np.inf)) if estimator == "xgboost" else data,
    }
    for name, part in sorts.items():
        assert predict(model, part, made).tobytes() == as_it_is(model, part, made).tobytes(), name
    assert plan_of(model) is plan_of(model)


@pytest.mark.parametrize(("estimator", "kind", "calibration"), [way for way in WAYS if way[2] == "none"])
def test_a_fit_is_the_pipelines_own(estimator, kind, calibration):
    """To the digest of everything that it has learned, encoder included, and with or without nulls and categories."""
    made, data = config(kind), rows(kind)
    for part in (data, data.dropna().reset_index(drop=True), data.astype({"c": "str"}), data[::-1]):
        recipe = Recipe("x", estimator, {})
        plain = build_pipeline(recipe, made, 1).fit(inputs_of(part, made.features), outcomes(part, made.target))
        assert model_digest(fit(recipe, part, resources(made))) == model_digest(plain)


def test_rare_categories_share_a_code_as_when_fitted():
    """HistGradientBoosting takes 255 of them: of three hundred, the rare ones share one."""
    made = config()
    data = rows(count=3000).assign(c=[f"c{i % 300}" if i % 3 else "often" for i in range(3000)])
    model = fit(Recipe("x", "hist_gradient_boosting", {}), data, resources(made))
    (codes,) = plan_of(model).codes
    assert len(set(codes.known.values())) <= 200 < len(codes.known)
    assert predict(model, data, made).tobytes() == as_it_is(model, data, made).tobytes()


def test_a_model_that_is_fitted_anew_has_a_new_plan():
    made, data, model = fitted("xgboost", "binary", "none")
    before = predict(model, data, made)
    other = data.assign(c=data["c"].map({"x": "u", "y": "v", "z": "w"}), y=1 - data["y"])
    model.fit(inputs_of(other, made.features), outcomes(other, made.target))
    assert predict(model, other, made).tobytes() == as_it_is(model, other, made).tobytes()
    assert predict(model, data, made).tobytes() != before.tobytes()


def test_features_without_categories_have_a_plan_too():
    made = config().model_copy(update={"features": config().features.model_copy(update={"categorical": ()})})
    data = rows()
    model = fit(Recipe("x", "xgboost", {}), data, resources(made))
    assert plan_of(model).codes == []
    assert predict(model, data, made).tobytes() == as_it_is(model, data, made).tobytes()


def test_other_cores_say_the_same():
    made, data, model = fitted("xgboost", "binary", "sigmoid")
    before = predict(model, data, made)
    plan_of(model).limit(3)
    assert '"nthread":"3"' in plan_of(model).estimator.estimator.get_booster().save_config()
    assert predict(model, data, made).tobytes() == before.tobytes()


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_forest_says_the_same_each_time_on_any_number_of_cores(kind, tmp_path):
    """scikit-learn's sums its trees in the order in which threads end, which shows where leaves are means."""
    made, data = config(kind), rows(kind)
    recipe = Recipe("x", "random_forest", {"min_samples_leaf": 5})
    on_four = SimpleNamespace(config=made, settings=SimpleNamespace(threads=4))
    model = fit(recipe, data, on_four)
    assert len({predict(model, data, made).tobytes() for _ in range(10)}) == 1
    assert predict(model, data, made).tobytes() == predict(fit(recipe, data, resources(made)), data, made).tobytes()
    model["estimate"].n_jobs = 4  # as in the file of a version that was fitted before this was so
    skops.io.dump(model, tmp_path / "model.skops")
    assert read_model(tmp_path / "model.skops")["estimate"].n_jobs == 1


def test_trees_that_are_fitted_anew_have_a_new_plan():
    made, data, model = fitted("xgboost", "binary", "none")
    before = predict(model, data, made)
    matrix = plan_of(model).matrix(data)
    model["estimate"].fit(matrix, 1 - outcomes(data, made.target))
    assert predict(model, data, made).tobytes() == as_it_is(model, data, made).tobytes() != before.tobytes()


@pytest.mark.parametrize(
    "params",
    [{"booster": "gblinear"}, {"objective": "multi:softmax", "num_class": 2}, {"missing": 0.5}, {"booster": "dart"}],
)
def test_trees_are_asked_as_xgboost_asks_them(params):
    """Or XGBoost's own class is, where it does more than that."""
    from xgboost import XGBClassifier

    rng = np.random.default_rng(0)
    matrix = np.round(rng.random((300, 4)), 1)
    matrix[::7, 1] = np.nan
    classes = 2 + ("objective" in params)
    outcome = rng.integers(0, classes, 300)
    estimator = XGBClassifier(n_estimators=8, **(params | {"num_class": None} if "num_class" in params else params))
    estimator.fit(matrix, outcome)
    assert _trees(estimator).predict_proba(matrix).tobytes() == estimator.predict_proba(matrix).tobytes()


def test_trees_of_early_stopping_are_the_best_ones():
    from xgboost import XGBRegressor

    rng = np.random.default_rng(0)
    matrix, outcome = rng.random((400, 3)), rng.random(400)
    estimator = XGBRegressor(n_estimators=50, early_stopping_rounds=2)
    estimator.fit(matrix[:200], outcome[:200], eval_set=[(matrix[200:], outcome[200:])], verbose=False)
    assert 0 < estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    assert _trees(estimator).predict(matrix).tobytes() == estimator.predict(matrix).tobytes()


def test_categories_that_are_no_text_are_left_to_the_pipeline():
    made, data = config(), rows().assign(c=lambda f: f["c"].map({"x": 1, "y": 2, "z": 3}))
    model = fit(Recipe("x", "xgboost", {}), data, resources(made))
    plain = build_pipeline(Recipe("x", "xgboost", {}), made, 1).fit(
        inputs_of(data, made.features), outcomes(data, made.target)
    )
    assert model_digest(model) == model_digest(plain)
    with pytest.raises(NoPlan, match="categories that are no text, such as 1"):
        plan_of(model)
    assert predict(model, data, made).tobytes() == as_it_is(model, data, made).tobytes()


@pytest.mark.parametrize("estimator", ["xgboost", "hist_gradient_boosting", "logistic_regression"])
def test_a_model_keeps_the_inputs_that_it_was_fitted_with(estimator):
    """Whatever model.yaml says by now: another order, one more, one that new versions do without."""
    made, data, model = fitted(estimator, "binary", "sigmoid")
    before, numbers = predict(model, data, made), made.features.numeric
    for numeric, retired in ((numbers[::-1], ()), (("d", *numbers), ()), ((*numbers, "d"), numbers[:1])):
        features = Features(numeric=numeric, categorical=made.features.categorical, retired=retired)
        changed = made.model_copy(update={"features": features})
        assert predict(model, data.assign(d=1.0), changed).tobytes() == before.tobytes()
    anew = fit(Recipe("x", estimator, {}), data.assign(d=1.0), resources(changed))
    assert features_of(anew).numeric == (*numbers[1:], "d")
    with pytest.raises(MissingFeature, match=f"fitted with {numbers[0]}, which"):
        predict(model, data.drop(columns=numbers[0]), made)


@pytest.mark.parametrize("estimator", ["xgboost", "logistic_regression"])
def test_rows_with_the_same_index_are_rows_of_their_own(estimator):
    made, data = config(), rows().set_axis([0] * 600)
    model = fit(Recipe("x", estimator, {}), data, resources(made))
    assert predict(model, data, made).tobytes() == predict(model, data.reset_index(drop=True), made).tobytes()
