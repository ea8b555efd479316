"""A prediction plan's predictions are bitwise equal to the model's, for every estimator, calibration and kind of rows."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import skops.io

from configs.features import Features
from tasks.contracts import Recipe
from tasks.errors import MissingFeature
from tasks.models.calibration import calibrate, response
from tasks.models.encoding_tables import NoPredictionPlan
from tasks.models.estimators import build_pipeline, read_model
from tasks.models.fast_predict import _trees, fitted_features, plan_of
from tasks.models.features import inputs_of, predict
from tasks.models.fingerprint import model_digest
from tasks.models.smoke_test import row_variants
from tasks.models.targets import outcomes
from tasks.training.splits import fit
from tests.tasks.models.test_estimators import VARIANTS, config, resources, rows


def fitted(estimator, kind, calibration):
    cfg, data = config(kind), rows(kind)
    model = fit(Recipe("x", estimator, {}), data, resources(cfg))
    if calibration == "none":
        return cfg, data, model
    responses = response(model, inputs_of(data, cfg.features))
    return cfg, data, calibrate(model, responses, outcomes(data, cfg.target), calibration)


def predict_without_plan(model, frame, cfg):
    """Predict with the model itself."""
    inputs = inputs_of(frame, cfg.features)
    if cfg.target.kind == "regression":
        return model.predict(inputs).astype("float64")
    probabilities = model.predict_proba(inputs).astype("float64")
    return probabilities[:, 1] if cfg.target.kind == "binary" else probabilities


@pytest.mark.long
@pytest.mark.parametrize(("estimator", "kind", "calibration"), VARIANTS)
def test_a_plan_predicts_bitwise_the_same(estimator, kind, calibration):
    cfg, data, model = fitted(estimator, kind, calibration)
    variants = row_variants(data, cfg.features) | {
        "strings of Arrow": data.astype({"c": "str"}),
        "categories": data.astype({"c": "category"}),
        "numbers in a category": data.assign(c=7),
        "integers with nulls": data.assign(a=pd.array([1, None] * 300, dtype="Int64")),
        "booleans": data.assign(b=data["b"] > 0.5),
        "infinities": data.assign(a=np.where(data["b"] > 0.5, np.inf, -np.inf)) if estimator == "xgboost" else data,
    }
    for name, part in variants.items():
        assert predict(model, part, cfg).tobytes() == predict_without_plan(model, part, cfg).tobytes(), name
    assert plan_of(model) is plan_of(model)


@pytest.mark.long
@pytest.mark.parametrize(("estimator", "kind", "calibration"), [v for v in VARIANTS if v[2] == "none"])
def test_a_fit_equals_that_of_the_pipeline(estimator, kind, calibration):
    """The digests of the whole fitted state are equal, with and without nulls and categories."""
    cfg, data = config(kind), rows(kind)
    for part in (data, data.dropna().reset_index(drop=True), data.astype({"c": "str"}), data[::-1]):
        recipe = Recipe("x", estimator, {})
        plain = build_pipeline(recipe, cfg, 1).fit(inputs_of(part, cfg.features), outcomes(part, cfg.target))
        assert model_digest(fit(recipe, part, resources(cfg))) == model_digest(plain)


def test_rare_categories_share_a_code():
    """HistGradientBoosting accepts 255 categories: of three hundred, the rare ones share a code."""
    cfg = config()
    data = rows(count=3000).assign(c=[f"c{i % 300}" if i % 3 else "often" for i in range(3000)])
    model = fit(Recipe("x", "hist_gradient_boosting", {}), data, resources(cfg))
    (codes,) = plan_of(model).codes
    assert len(set(codes.by_category.values())) <= 200 < len(codes.by_category)
    assert predict(model, data, cfg).tobytes() == predict_without_plan(model, data, cfg).tobytes()


def test_a_model_that_is_fitted_again_has_a_new_plan():
    cfg, data, model = fitted("xgboost", "binary", "none")
    before = predict(model, data, cfg)
    other = data.assign(c=data["c"].map({"x": "u", "y": "v", "z": "w"}), y=1 - data["y"])
    model.fit(inputs_of(other, cfg.features), outcomes(other, cfg.target))
    assert predict(model, other, cfg).tobytes() == predict_without_plan(model, other, cfg).tobytes()
    assert predict(model, data, cfg).tobytes() != before.tobytes()


def test_a_model_without_categories_has_a_plan():
    cfg = config().model_copy(update={"features": config().features.model_copy(update={"categorical": ()})})
    data = rows()
    model = fit(Recipe("x", "xgboost", {}), data, resources(cfg))
    assert plan_of(model).codes == []
    assert predict(model, data, cfg).tobytes() == predict_without_plan(model, data, cfg).tobytes()


def test_predictions_do_not_depend_on_the_number_of_threads():
    cfg, data, model = fitted("xgboost", "binary", "sigmoid")
    before = predict(model, data, cfg)
    plan_of(model).set_threads(3)
    assert '"nthread":"3"' in plan_of(model).estimator.estimator.get_booster().save_config()
    assert predict(model, data, cfg).tobytes() == before.tobytes()


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_forest_predicts_the_same_each_time_with_any_number_of_threads(kind, tmp_path):
    """scikit-learn adds up the trees in the order in which threads end. With mean values in the leaves, this changes the last bit."""
    cfg, data = config(kind), rows(kind)
    recipe = Recipe("x", "random_forest", {"min_samples_leaf": 5})
    on_four = SimpleNamespace(config=cfg, settings=SimpleNamespace(threads=4))
    model = fit(recipe, data, on_four)
    assert len({predict(model, data, cfg).tobytes() for _ in range(10)}) == 1
    assert predict(model, data, cfg).tobytes() == predict(fit(recipe, data, resources(cfg)), data, cfg).tobytes()
    model["estimate"].n_jobs = 4  # as in files of older versions
    skops.io.dump(model, tmp_path / "model.skops")
    assert read_model(tmp_path / "model.skops")["estimate"].n_jobs == 1


def test_trees_that_are_fitted_again_have_a_new_plan():
    cfg, data, model = fitted("xgboost", "binary", "none")
    before = predict(model, data, cfg)
    matrix = plan_of(model).matrix(data)
    model["estimate"].fit(matrix, 1 - outcomes(data, cfg.target))
    assert predict(model, data, cfg).tobytes() == predict_without_plan(model, data, cfg).tobytes() != before.tobytes()


@pytest.mark.parametrize(
    "params",
    [{"booster": "gblinear"}, {"objective": "multi:softmax", "num_class": 2}, {"missing": 0.5}, {"booster": "dart"}],
)
def test_trees_predict_the_same_as_xgboosts_class(params):
    """If XGBoost's class postprocesses predictions, the class itself is used."""
    from xgboost import XGBClassifier

    rng = np.random.default_rng(0)
    matrix = np.round(rng.random((300, 4)), 1)
    matrix[::7, 1] = np.nan
    classes = 2 + ("objective" in params)
    outcome = rng.integers(0, classes, 300)
    estimator = XGBClassifier(n_estimators=8, **(params | {"num_class": None} if "num_class" in params else params))
    estimator.fit(matrix, outcome)
    assert _trees(estimator).predict_proba(matrix).tobytes() == estimator.predict_proba(matrix).tobytes()


def test_with_early_stopping_only_the_best_trees_are_used():
    from xgboost import XGBRegressor

    rng = np.random.default_rng(0)
    matrix, outcome = rng.random((400, 3)), rng.random(400)
    estimator = XGBRegressor(n_estimators=50, early_stopping_rounds=2)
    estimator.fit(matrix[:200], outcome[:200], eval_set=[(matrix[200:], outcome[200:])], verbose=False)
    assert 0 < estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    assert _trees(estimator).predict(matrix).tobytes() == estimator.predict(matrix).tobytes()


def test_a_model_with_categories_that_are_not_strings_has_no_plan():
    cfg, data = config(), rows().assign(c=lambda f: f["c"].map({"x": 1, "y": 2, "z": 3}))
    model = fit(Recipe("x", "xgboost", {}), data, resources(cfg))
    plain = build_pipeline(Recipe("x", "xgboost", {}), cfg, 1).fit(
        inputs_of(data, cfg.features), outcomes(data, cfg.target)
    )
    assert model_digest(model) == model_digest(plain)
    with pytest.raises(NoPredictionPlan, match="categories that are not strings, such as 1"):
        plan_of(model)
    assert predict(model, data, cfg).tobytes() == predict_without_plan(model, data, cfg).tobytes()


@pytest.mark.parametrize("estimator", ["xgboost", "hist_gradient_boosting", "logistic_regression"])
def test_a_model_keeps_the_features_that_it_was_fitted_with(estimator):
    """After a change of model.yaml: another order, an added feature, a retired feature."""
    cfg, data, model = fitted(estimator, "binary", "sigmoid")
    before, numbers = predict(model, data, cfg), cfg.features.numeric
    for numeric, retired in ((numbers[::-1], ()), (("d", *numbers), ()), ((*numbers, "d"), numbers[:1])):
        features = Features(numeric=numeric, categorical=cfg.features.categorical, retired=retired)
        changed = cfg.model_copy(update={"features": features})
        assert predict(model, data.assign(d=1.0), changed).tobytes() == before.tobytes()
    new_model = fit(Recipe("x", estimator, {}), data.assign(d=1.0), resources(changed))
    assert fitted_features(new_model).numeric == (*numbers[1:], "d")
    with pytest.raises(MissingFeature, match=f"fitted with {numbers[0]}, which"):
        predict(model, data.drop(columns=numbers[0]), cfg)


@pytest.mark.parametrize("estimator", ["xgboost", "logistic_regression"])
def test_rows_with_the_same_index_are_predicted_separately(estimator):
    cfg, data = config(), rows().set_axis([0] * 600)
    model = fit(Recipe("x", estimator, {}), data, resources(cfg))
    assert predict(model, data, cfg).tobytes() == predict(model, data.reset_index(drop=True), cfg).tobytes()
