"""Estimators, selection, calibration and digests on synthetic data, without servers."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.utils import all_estimators
from xgboost import XGBClassifier, XGBRegressor

from configs.features import LARGEST_NUMBER
from configs.gate import Fairness
from configs.kinds import KINDS, PARAMETERS
from configs.schema import ModelConfig
from configs.training import Candidate
from tasks.contracts import Recipe, Trial
from tasks.errors import NotEnoughData, SearchTooSlow
from tasks.models.calibration import calibrate, response
from tasks.models.estimators import build_pipeline, read_model
from tasks.models.fairness import measure_gap
from tasks.models.features import inputs_of, predict
from tasks.models.fingerprint import frame_digest, model_digest
from tasks.models.smoke_test import prediction_problem, query_version, row_variants
from tasks.models.targets import outcomes, prediction_array, prediction_columns
from tasks.training import selection
from tasks.training.selection import compare_with_prior, search, select, try_recipe, with_calibration
from tasks.training.splits import OutOfFold, fit, time_splits

pytestmark = pytest.mark.long

START = pd.Timestamp("2024-01-01", tz="UTC")
KIND = {"binary": {}, "multiclass": {"classes": ["calm", "mild", "wild"]}, "regression": {}}
CASES = [(name, kind) for name, kinds in KINDS.items() for kind in kinds]


def config(kind: str = "binary", **training) -> ModelConfig:
    rules = {
        "window": {"holdout": "5D", "min_rows": 50},
        "candidates": {"trees": {"estimator": "xgboost"}},
        "splits": 2,
    }
    return ModelConfig.model_validate(
        {
            "name": "synthetic",
            "description": "synthetic",
            "partition": {"every": "D"},
            "source": {"tables": {"t": {"path": "t.csv"}}},
            "key": "id",
            "time": "at",
            "target": {"column": "y", "kind": kind, "delay": "1D", **KIND[kind]},
            "features": {"numeric": ["a", "b"], "categorical": ["c"]},
            "training": rules | training,
            "gate": {"floor": {"squared_error" if kind == "regression" else "log_loss": 9}},
        }
    )


def rows(kind: str = "binary", count: int = 600, seed: int = 0, days: int = 30) -> pd.DataFrame:
    """Return rows over `days` days, oldest first, with nulls; the outcome depends on `a` and `c`."""
    rng = np.random.default_rng(seed)
    a, c = rng.normal(size=count), rng.choice(["x", "y", "z"], count)
    score = 2 * a + (c == "x")
    outcome = {
        "binary": (rng.random(count) < 1 / (1 + np.exp(-score))).astype("float64"),
        "multiclass": np.array(["calm", "mild", "wild"])[np.digitize(score + rng.normal(size=count), [-1, 1])],
        "regression": score + rng.normal(size=count),
    }[kind]
    at = START + pd.to_timedelta(np.arange(count) * days * 24 * 60 // count, "min")
    frame = pd.DataFrame(
        {"id": np.arange(count).astype(str), "at": at, "a": a, "b": rng.random(count), "c": c, "y": outcome}
    )
    frame.loc[::17, "a"] = np.nan
    frame.loc[::13, "c"] = None
    return frame


def resources(model_config: ModelConfig) -> SimpleNamespace:
    return SimpleNamespace(config=model_config, settings=SimpleNamespace(threads=1))


@pytest.fixture
def log(monkeypatch):
    """Replace the run logger, which does not exist outside of a run."""
    monkeypatch.setattr("tasks.training.selection.run_log", lambda: SimpleNamespace(info=lambda *_: None))


@pytest.mark.parametrize("estimator", PARAMETERS)
def test_every_allowed_parameter_exists(estimator):
    """The list in configs/ is written by hand, since reading a config must not import scikit-learn."""
    for kind in KINDS[estimator]:
        built = build_pipeline(Recipe("x", estimator, {}), config(kind), 1)[-1]
        assert set(PARAMETERS[estimator]) <= set(built.get_params())
        classes = {cls for _, cls in all_estimators()} | {XGBClassifier, XGBRegressor}
        assert type(built) in classes


VARIANTS = [(e, k, c) for e, k in CASES for c in (("none", "sigmoid", "isotonic") if k != "regression" else ("none",))]


@pytest.mark.long
@pytest.mark.parametrize(("estimator", "kind", "calibration"), VARIANTS)
def test_every_estimator_predicts_any_row_and_is_stored_without_executable_code(estimator, kind, calibration, tmp_path):
    cfg, data = config(kind), rows(kind)
    model = fit(Recipe("x", estimator, {}), data, resources(cfg))
    if calibration != "none":
        responses = response(model, inputs_of(data, cfg.features))
        model = calibrate(model, responses, outcomes(data, cfg.target), calibration)
    prediction = predict(model, data, cfg)
    assert prediction.shape == ((600, 3) if kind == "multiclass" else (600,))
    for part in row_variants(data, cfg.features).values():
        assert prediction_problem(model, part, cfg) == ""
    skops.io.dump(model, tmp_path / "model.skops")
    loaded = read_model(tmp_path / "model.skops")
    assert predict(loaded, data, cfg).tobytes() == prediction.tobytes()
    assert model_digest(loaded) == model_digest(model)
    frame = pd.DataFrame(prediction_columns(prediction, cfg.target))
    assert prediction_array(frame, cfg.target).tobytes() == prediction.tobytes()


@pytest.mark.long
@pytest.mark.parametrize(("estimator", "kind"), CASES)
def test_the_largest_numbers_that_validation_accepts_can_be_learned_from(estimator, kind):
    model, data = config(kind), rows(kind)
    data.loc[[3, 4], "b"] = [LARGEST_NUMBER, -LARGEST_NUMBER]
    pipeline = fit(Recipe("one", estimator, {}), data, resources(model))
    assert np.isfinite(predict(pipeline, data, model)).all()


@pytest.mark.parametrize(("estimator", "kind"), CASES)
def test_the_digest_depends_only_on_the_model(estimator, kind):
    cfg, data = config(kind), rows(kind)
    one, two = (model_digest(fit(Recipe("x", estimator, {}), data, resources(cfg))) for _ in range(2))
    assert one == two
    other = data.assign(a=data["a"] * 1.01)
    assert model_digest(fit(Recipe("x", estimator, {}), other, resources(cfg))) != one


@pytest.mark.slow
@pytest.mark.long
def test_the_digest_is_the_same_in_another_process():
    """It does not depend on hash seeds and addresses."""
    code = (
        "from tests.tasks.models.test_estimators import *\n"
        "for name in ('xgboost', 'hist_gradient_boosting', 'random_forest', 'logistic_regression'):\n"
        "    print(model_digest(fit(Recipe('x', name, {}), rows(), resources(config()))))"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    ]
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].split())) == 4


def test_the_digest_of_rows_depends_on_their_values_and_order():
    data = rows()
    assert frame_digest(data) == frame_digest(data.copy())
    for kind in ("str", "string"):
        assert frame_digest(data.astype({"c": kind})) == frame_digest(data.astype({"c": object})), (
            "independent of how strings are stored"
        )
    assert frame_digest(data) != frame_digest(data.iloc[::-1])
    for column, value in (("a", 5.0), ("c", "w"), ("c", None), ("at", START), ("y", 1 - data["y"].iloc[3])):
        changed = data.copy()
        changed.loc[3, column] = value
        assert frame_digest(changed) != frame_digest(data), column


def test_splits_are_ordered_in_time_with_a_gap_of_the_label_delay():
    cfg, data = config(), rows()
    end = START + pd.Timedelta("30D")
    splits = time_splits(data, end, cfg)
    assert len(splits) == 2
    for number, split in zip((2, 1), splits, strict=True):
        start = end - number * pd.Timedelta("5D")
        assert split.train["at"].max() < start - pd.Timedelta("1D") <= split.train["at"].max() + pd.Timedelta("2h")
        assert split.validation["at"].min() >= start
        assert split.validation["at"].max() < start + pd.Timedelta("5D")


def test_splits_with_too_few_training_rows_are_left_out_and_no_split_is_an_error():
    cfg = config(splits=20)
    assert len(time_splits(rows(), START + pd.Timedelta("30D"), cfg)) == 5
    with pytest.raises(NotEnoughData, match="too short to choose"):
        time_splits(rows(days=4), START + pd.Timedelta("4D"), cfg)
    one_class = rows().assign(y=0.0)
    with pytest.raises(NotEnoughData, match="a classifier needs both"):
        time_splits(one_class, START + pd.Timedelta("30D"), cfg)
    with pytest.raises(NotEnoughData, match="class wild"):
        time_splits(
            rows("multiclass").replace({"y": {"wild": "mild"}}), START + pd.Timedelta("30D"), config("multiclass")
        )


def search_candidate(**rules) -> Candidate:
    space = {
        "max_depth": {"low": 1, "high": 6},
        "learning_rate": {"low": 0.01, "high": 0.5, "log": True},
        "grow_policy": ["depthwise", "lossguide"],
    }
    return Candidate.model_validate(
        {"estimator": "xgboost", "params": {"n_estimators": 15, "max_depth": 6}, "search": {"trials": 6, "space": space} | rules}
    )  # fmt: skip


def test_a_search_is_repeatable_and_starts_with_the_declared_parameters(log):
    res = resources(config())
    splits = time_splits(rows(), START + pd.Timedelta("30D"), res.config)
    one, two = (search("s", search_candidate(), splits, res)[0] for _ in range(2))
    assert one == two
    assert len(one.tried) == 6
    assert one.tried[0]["params"]["max_depth"] == 6
    assert one.loss == min(trial["loss"] for trial in one.tried)
    assert one.recipe.params["n_estimators"] == 15
    assert set(one.recipe.params) == {"n_estimators", "max_depth", "learning_rate", "grow_policy"}


def test_a_search_over_its_time_limit_fails(log):
    res = resources(config())
    splits = time_splits(rows(), START + pd.Timedelta("30D"), res.config)
    with pytest.raises(SearchTooSlow, match="1 of 6 trials"):
        search("s", search_candidate(time_limit="0min"), splits, res)


def test_a_search_with_only_nan_losses_selects_no_candidate(log, monkeypatch):
    original = selection.predict_out_of_fold

    def with_nan(recipe: Recipe, *args) -> OutOfFold:
        validation = original(recipe, *args)
        return replace(validation, loss=float("nan")) if recipe.estimator == "xgboost" else validation

    monkeypatch.setattr("tasks.training.selection.predict_out_of_fold", with_nan)
    res = resources(config(candidates={"invalid": search_candidate().model_dump()}, baseline="prior"))
    trials, recipe = select(rows(), START + pd.Timedelta("30D"), res, lambda trial: None)
    assert recipe is None
    assert len(trials[-1].tried) == 6
    assert "its loss nan does not beat baseline: prior" in trials[-1].note


def test_where_nothing_beats_the_prior_nothing_is_selected(log):
    noise = rows().assign(y=(np.random.default_rng(1).random(600) < 0.5).astype("float64"))
    candidates = {"trees": {"estimator": "xgboost", "params": {"n_estimators": 200}}}
    res = resources(config(candidates=candidates, baseline="prior"))
    reported = []
    trials, recipe = select(noise, START + pd.Timedelta("30D"), res, reported.append)
    assert recipe is None
    assert [t.name for t in trials] == ["baseline: prior", "trees"]
    assert not trials[-1].beats_baseline
    assert "does not beat baseline: prior" in trials[-1].note
    assert [t.name for t in reported] == [t.name for t in trials]


def test_a_linear_baseline_that_is_the_best_is_fitted(log):
    """The outcomes follow a logistic regression, so deep trees lose to it, and it is the version that is fitted."""
    trees = {"estimator": "xgboost", "params": {"n_estimators": 200, "learning_rate": 1.0, "max_depth": 8}}
    res = resources(config(candidates={"trees": trees}))
    trials, recipe = select(rows(), START + pd.Timedelta("30D"), res, lambda _: None)
    losses = {trial.name: trial.loss for trial in trials}
    assert losses["baseline: linear"] < losses["trees"]
    assert recipe is not None
    assert (recipe.candidate, recipe.estimator) == ("baseline: linear", "logistic_regression")
    only_prior = resources(config(candidates={"trees": trees}, baseline="prior"))
    assert {t.name for t in select(rows(), START + pd.Timedelta("30D"), only_prior, lambda _: None)[0]} == {
        "baseline: prior",
        "trees",
    }


def test_a_trial_that_is_not_below_the_prior_is_marked():
    def trial(loss: float) -> Trial:
        return Trial("mine", Recipe("mine", "xgboost", {}), loss, (loss,))

    prior = trial(0.5)
    assert compare_with_prior(trial(0.49), prior).beats_baseline
    assert [compare_with_prior(trial(loss), prior).beats_baseline for loss in (0.5, 0.6, float("nan"))] == [False] * 3


def test_the_best_candidate_is_selected(log):
    stump = {"estimator": "xgboost", "params": {"n_estimators": 1}}
    res = resources(config(candidates={"stump": stump, "line": {"estimator": "logistic_regression"}}))
    _, recipe = select(rows(), START + pd.Timedelta("30D"), res, lambda _: None)
    assert (recipe.candidate, recipe.estimator) == ("line", "logistic_regression")


def test_calibration_is_added_only_if_it_helps_significantly(log):
    """Deep trees without shrinkage are overconfident; a logistic regression on logistic data is calibrated."""
    data = rows(count=3000, seed=4)  # with one seed in twenty the linear model would be calibrated too
    res = resources(config(calibration="sigmoid", splits=4))  # so that the newer half has ten days
    splits = time_splits(data, START + pd.Timedelta("30D"), res.config)
    overconfident = Recipe("trees", "xgboost", {"n_estimators": 200, "learning_rate": 1.0, "max_depth": 8})
    linear = Recipe("line", "logistic_regression", {})
    with_sigmoid, without = (
        with_calibration(*try_recipe("t", recipe, splits, res), res) for recipe in (overconfident, linear)
    )
    assert (with_sigmoid.recipe.calibration, without.recipe.calibration) == ("sigmoid", "none")
    assert "not a significant improvement" in without.note
    disabled = with_calibration(*try_recipe("t", overconfident, splits, res), resources(config(calibration="none")))
    assert disabled.recipe == overconfident


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_calibration_equals_that_of_scikit_learn_with_a_frozen_classifier(kind, method):
    cfg, data = config(kind), rows(kind)
    model = fit(Recipe("x", "xgboost", {"n_estimators": 30}), data.iloc[:300], resources(cfg))
    later = data.iloc[300:]
    inputs, outcome = inputs_of(later, cfg.features), outcomes(later, cfg.target)
    calibrated = calibrate(model, response(model, inputs), outcome, method)
    expected = CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(inputs, outcome)
    assert np.allclose(calibrated.predict_proba(inputs), expected.predict_proba(inputs))
    assert type(clone(calibrated)) is type(calibrated)


@pytest.mark.slow
@pytest.mark.long
def test_the_smoke_test_reports_a_version_that_cannot_be_loaded_or_predicts_other_values(tiny, tmp_path):
    from configs.load import load_model

    cfg = load_model("tiny").config
    frame = pd.DataFrame({"weight": [1.0, 2.0, np.nan], "distance": [1.0, 2.0, 3.0], "city": ["Bonn", None, "Kiel"]})
    model = build_pipeline(Recipe("x", "xgboost", {"n_estimators": 3}), cfg, 1)
    model.fit(inputs_of(frame, cfg.features), [0, 1, 0])
    prediction = predict(model, frame, cfg)
    folder = tmp_path / "version"
    folder.mkdir()
    skops.io.dump(model, folder / "model.skops")
    query = query_version(cfg, folder, frame, prediction)
    assert query.problem == ""
    assert query.one_row_ms > 0 < query.thousand_rows_ms
    assert query.size == (folder / "model.skops").stat().st_size
    assert "other values" in query_version(cfg, folder, frame, prediction + 1e-9).problem
    (folder / "model.skops").write_bytes(b"truncated")
    failed = query_version(cfg, folder, frame, prediction)
    assert "zip" in failed.problem.lower()
    assert np.isnan(failed.one_row_ms)
    assert replace(failed, problem="").rows == 0


def grouped(rates: dict[str, float]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return a thousand rows a group with the given rates of positive predictions, their outcomes and their predictions."""
    groups, outcome, prediction = [], [], []
    for name, rate in rates.items():
        groups += [name] * 1000
        outcome += [1] * 500 + [0] * 500
        prediction += ([1.0] * int(500 * rate) + [0.0] * (500 - int(500 * rate))) * 2
    return pd.DataFrame({"c": groups}), np.array(outcome), np.array(prediction)


@pytest.mark.parametrize(
    ("metric", "gap"),
    [("demographic_parity_difference", 0.3), ("equalized_odds_difference", 0.3), ("accuracy_difference", 0.0)],
)
def test_a_gap_between_groups_is_measured(metric, gap):
    """60 %, 40 % and 30 % of the groups are predicted positive, independent of the outcome: both rates differ by 30 points."""
    frame, outcome, prediction = grouped({"a": 0.6, "b": 0.4, "c": 0.3})
    rule = Fairness(column="c", metric=metric, at_most=0.1)
    result = measure_gap(rule, frame, outcome, prediction, config())
    assert result.gap == pytest.approx(gap)
    assert result.groups == {"a": 1000, "b": 1000, "c": 1000}


def test_a_gap_is_nan_if_a_group_is_too_small():
    frame, outcome, prediction = grouped({"a": 0.6, "b": 0.4})
    frame.loc[0, "c"] = None
    assert np.isnan(measure_gap(Fairness(column="c", at_most=0.1), frame, outcome, prediction, config()).gap)


def test_the_gap_in_mean_errors_is_measured_for_regression():
    frame = pd.DataFrame({"c": ["a"] * 500 + ["b"] * 500})
    rule = Fairness(column="c", metric="mean_error_difference", at_most=0.1)
    error = np.r_[np.full(500, 0.5), np.full(500, -2.0)]
    assert measure_gap(rule, frame, np.zeros(1000), error, config("regression")).gap == pytest.approx(1.5)
