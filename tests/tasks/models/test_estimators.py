"""Estimators, selection, calibration and digests on made-up data, without servers."""

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

from configs.gate import Fairness
from configs.kinds import KINDS, PARAMETERS
from configs.schema import ModelConfig
from configs.training import Candidate
from tasks.contracts import BASELINE, Recipe, Trial
from tasks.errors import NotEnoughData, SearchTooSlow
from tasks.models.calibration import calibrated, response
from tasks.models.estimators import build_pipeline, read_model
from tasks.models.features import inputs_of, predict
from tasks.models.fingerprint import frame_digest, model_digest
from tasks.models.smoke_test import query_version, sorts_of, unsound
from tasks.models.targets import outcomes, prediction_array, prediction_columns
from tasks.training import selection
from tasks.training.evaluation import measure_gap
from tasks.training.selection import against_baselines, search, select, try_recipe, with_calibration
from tasks.training.splits import Unseen, fit, time_splits

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
            "name": "made",
            "description": "made up",
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
    """Rows over `days` days, oldest first, with nulls; `a` and `c` decide about the outcome."""
    rng = np.random.default_rng(seed)
    a, c = rng.normal(size=count), rng.choice(["x", "y", "z"], count)
    score = 2 * a + (c == "x")
    outcome = {
        "binary": (rng.random(count) < 1 / (1 + np.exp(-score))).astype("float64"),
        "multiclass": np.array(["calm", "mild", "wild"])[np.digitize(score + rng.normal(size=count), [-1, 1])],
        "regression": score + rng.normal(size=count),
    }[kind]
    at = START + pd.to_timedelta(np.arange(count) * days * 24 * 60 // count, "min")
    made = pd.DataFrame(
        {"id": np.arange(count).astype(str), "at": at, "a": a, "b": rng.random(count), "c": c, "y": outcome}
    )
    made.loc[::17, "a"] = np.nan
    made.loc[::13, "c"] = None
    return made


def resources(made: ModelConfig) -> SimpleNamespace:
    return SimpleNamespace(config=made, settings=SimpleNamespace(threads=1))


@pytest.fixture
def log(monkeypatch):
    """Outside of a run there is no run logger."""
    monkeypatch.setattr("tasks.training.selection.run_log", lambda: SimpleNamespace(info=lambda *_: None))


@pytest.mark.parametrize("estimator", PARAMETERS)
def test_every_parameter_that_may_be_named_exists(estimator):
    """The list in configs/ is written by hand, since reading a config must not import scikit-learn."""
    for kind in KINDS[estimator]:
        built = build_pipeline(Recipe("x", estimator, {}), config(kind), 1)[-1]
        assert set(PARAMETERS[estimator]) <= set(built.get_params())
        known = {cls for _, cls in all_estimators()} | {XGBClassifier, XGBRegressor}
        assert type(built) in known


WAYS = [(e, k, way) for e, k in CASES for way in (("none", "sigmoid", "isotonic") if k != "regression" else ("none",))]


@pytest.mark.parametrize(("estimator", "kind", "calibration"), WAYS)
def test_every_estimator_learns_answers_any_row_and_is_kept_without_running_code(
    estimator, kind, calibration, tmp_path
):
    made, data = config(kind), rows(kind)
    model = fit(Recipe("x", estimator, {}), data, resources(made))
    if calibration != "none":
        answered = response(model, inputs_of(data, made.features))
        model = calibrated(model, answered, outcomes(data, made.target), calibration)
    said = predict(model, data, made)
    assert said.shape == ((600, 3) if kind == "multiclass" else (600,))
    for part in sorts_of(data, made.features).values():
        assert unsound(model, part, made) == ""
    skops.io.dump(model, tmp_path / "model.skops")
    again = read_model(tmp_path / "model.skops")
    assert predict(again, data, made).tobytes() == said.tobytes()
    assert model_digest(again) == model_digest(model)
    frame = pd.DataFrame(prediction_columns(said, made.target))
    assert prediction_array(frame, made.target).tobytes() == said.tobytes()


@pytest.mark.parametrize(("estimator", "kind"), CASES)
def test_the_digest_is_of_the_model_and_of_nothing_else(estimator, kind):
    made, data = config(kind), rows(kind)
    one, two = (model_digest(fit(Recipe("x", estimator, {}), data, resources(made))) for _ in range(2))
    assert one == two
    other = data.assign(a=data["a"] * 1.01)
    assert model_digest(fit(Recipe("x", estimator, {}), other, resources(made))) != one


def test_the_digest_is_the_same_in_another_process():
    """Neither hash seeds nor addresses take part."""
    code = (
        "from tests.tasks.models.test_estimators import *\n"
        "for name in ('xgboost', 'hist_gradient_boosting', 'random_forest', 'logistic_regression'):\n"
        "    print(model_digest(fit(Recipe('x', name, {}), rows(), resources(config()))))"
    )
    found = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    ]
    assert found[0] == found[1]
    assert len(set(found[0].split())) == 4


def test_the_digest_of_rows_is_of_their_values_and_order():
    data = rows()
    assert frame_digest(data) == frame_digest(data.copy())
    for kind in ("str", "string"):
        assert frame_digest(data.astype({"c": kind})) == frame_digest(data.astype({"c": object})), (
            "however text is held"
        )
    assert frame_digest(data) != frame_digest(data.iloc[::-1])
    for column, value in (("a", 5.0), ("c", "w"), ("c", None), ("at", START), ("y", 1 - data["y"].iloc[3])):
        changed = data.copy()
        changed.loc[3, column] = value
        assert frame_digest(changed) != frame_digest(data), column


def test_splits_are_in_time_with_a_gap_of_the_label_delay_and_never_see_what_comes():
    made, data = config(), rows()
    end = START + pd.Timedelta("30D")
    splits = time_splits(data, end, made)
    assert len(splits) == 2
    for number, split in zip((2, 1), splits, strict=True):
        border = end - number * pd.Timedelta("5D")
        assert split.before["at"].max() < border - pd.Timedelta("1D") <= split.before["at"].max() + pd.Timedelta("2h")
        assert split.after["at"].min() >= border
        assert split.after["at"].max() < border + pd.Timedelta("5D")


def test_splits_that_would_leave_too_little_are_left_out_and_none_is_an_error():
    made = config(splits=20)
    assert len(time_splits(rows(), START + pd.Timedelta("30D"), made)) == 5
    with pytest.raises(NotEnoughData, match="too short to choose"):
        time_splits(rows(days=4), START + pd.Timedelta("4D"), made)
    one_class = rows().assign(y=0.0)
    with pytest.raises(NotEnoughData, match="a classifier needs both"):
        time_splits(one_class, START + pd.Timedelta("30D"), made)
    with pytest.raises(NotEnoughData, match="class wild"):
        time_splits(
            rows("multiclass").replace({"y": {"wild": "mild"}}), START + pd.Timedelta("30D"), config("multiclass")
        )


def searching(**rules) -> Candidate:
    space = {
        "max_depth": {"low": 1, "high": 6},
        "learning_rate": {"low": 0.01, "high": 0.5, "log": True},
        "grow_policy": ["depthwise", "lossguide"],
    }
    return Candidate.model_validate(
        {"estimator": "xgboost", "params": {"n_estimators": 15, "max_depth": 6}, "search": {"trials": 6, "space": space} | rules}
    )  # fmt: skip


def test_a_search_is_repeatable_tries_the_declared_first_and_is_no_worse_than_it(log):
    res = resources(config())
    splits = time_splits(rows(), START + pd.Timedelta("30D"), res.config)
    one, two = (search("s", searching(), splits, res)[0] for _ in range(2))
    assert one == two
    assert len(one.tried) == 6
    assert one.tried[0]["params"]["max_depth"] == 6
    assert one.loss == min(trial["loss"] for trial in one.tried)
    assert one.recipe.params["n_estimators"] == 15
    assert set(one.recipe.params) == {"n_estimators", "max_depth", "learning_rate", "grow_policy"}


def test_a_search_over_its_time_fails_and_chooses_nothing(log):
    res = resources(config())
    splits = time_splits(rows(), START + pd.Timedelta("30D"), res.config)
    with pytest.raises(SearchTooSlow, match="1 of 6 trials"):
        search("s", searching(time_limit="0min"), splits, res)


def test_a_search_whose_every_loss_is_nan_gives_no_candidate(log, monkeypatch):
    honest = selection.foresee

    def foresee(recipe: Recipe, *given) -> Unseen:
        seen = honest(recipe, *given)
        return replace(seen, loss=float("nan")) if recipe.estimator == "xgboost" else seen

    monkeypatch.setattr("tasks.training.selection.predict_out_of_fold", foresee)
    res = resources(config(candidates={"lost": searching().model_dump()}))
    trials, recipe = select(rows(), START + pd.Timedelta("30D"), res, lambda trial: None)
    assert recipe is None
    assert len(trials[-1].tried) == 6
    assert "its loss nan does not beat baseline: prior" in trials[-1].note


def test_what_does_not_beat_the_baselines_is_no_candidate(log):
    noise = rows().assign(y=(np.random.default_rng(1).random(600) < 0.5).astype("float64"))
    res = resources(config(candidates={"trees": {"estimator": "xgboost", "params": {"n_estimators": 200}}}))
    told = []
    trials, recipe = select(noise, START + pd.Timedelta("30D"), res, told.append)
    assert recipe is None
    assert [t.name for t in trials] == ["baseline: prior", "baseline: linear", "trees"]
    assert not trials[-1].beats_baseline
    assert "does not beat baseline: prior" in trials[-1].note
    assert [t.name for t in told] == [t.name for t in trials]


def test_a_linear_candidate_is_held_against_the_prior_alone():
    def trial(name: str, estimator: str, loss: float) -> Trial:
        return Trial(name, Recipe(name, estimator, {}), loss, (loss,))

    baselines = [trial(f"{BASELINE}prior", "prior", 0.6), trial(f"{BASELINE}linear", "logistic_regression", 0.5)]
    assert against_baselines(trial("mine", "logistic_regression", 0.5), baselines).beats_baseline
    assert not against_baselines(trial("mine", "xgboost", 0.5), baselines).beats_baseline
    assert not against_baselines(trial("mine", "logistic_regression", float("nan")), baselines).beats_baseline


def test_the_best_candidate_is_chosen(log):
    stump = {"estimator": "xgboost", "params": {"n_estimators": 1}}
    res = resources(config(candidates={"stump": stump, "line": {"estimator": "logistic_regression"}}))
    _, recipe = select(rows(), START + pd.Timedelta("30D"), res, lambda _: None)
    assert (recipe.candidate, recipe.estimator) == ("line", "logistic_regression")


def test_calibration_is_taken_where_it_surely_helps(log):
    """Deep trees without shrinkage are far too sure; a logistic regression on logistic data is not."""
    data = rows(count=3000, seed=4)  # one seed in ten would calibrate the honest one: that is the stated confidence
    res = resources(config(calibration="sigmoid"))
    splits = time_splits(data, START + pd.Timedelta("30D"), res.config)
    sure = Recipe("trees", "xgboost", {"n_estimators": 200, "learning_rate": 1.0, "max_depth": 8})
    honest = Recipe("line", "logistic_regression", {})
    taken, left = (with_calibration(*try_recipe("t", recipe, splits, res), res) for recipe in (sure, honest))
    assert (taken.recipe.calibration, left.recipe.calibration) == ("sigmoid", "none")
    assert "not surely better" in left.note
    never = with_calibration(*try_recipe("t", sure, splits, res), resources(config(calibration="none")))
    assert never.recipe == sure


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_calibrating_is_what_scikit_learn_does_with_a_frozen_classifier(kind, method):
    made, data = config(kind), rows(kind)
    model = fit(Recipe("x", "xgboost", {"n_estimators": 30}), data.iloc[:300], resources(made))
    later = data.iloc[300:]
    inputs, outcome = inputs_of(later, made.features), outcomes(later, made.target)
    mine = calibrated(model, response(model, inputs), outcome, method)
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(inputs, outcome)
    assert np.allclose(mine.predict_proba(inputs), theirs.predict_proba(inputs))
    assert type(clone(mine)) is type(mine)


def test_a_fresh_process_that_cannot_load_or_says_something_else_is_found_out(tiny, tmp_path):
    from configs.load import load_model

    made = load_model("tiny").config
    frame = pd.DataFrame({"weight": [1.0, 2.0, np.nan], "distance": [1.0, 2.0, 3.0], "city": ["Bonn", None, "Kiel"]})
    model = build_pipeline(Recipe("x", "xgboost", {"n_estimators": 3}), made, 1)
    model.fit(inputs_of(frame, made.features), [0, 1, 0])
    said = predict(model, frame, made)
    folder = tmp_path / "version"
    folder.mkdir()
    skops.io.dump(model, folder / "model.skops")
    found = query_version(made, folder, frame, said)
    assert found.problem == ""
    assert found.one_row_ms > 0 < found.thousand_rows_ms
    assert found.size == (folder / "model.skops").stat().st_size
    assert "other values" in query_version(made, folder, frame, said + 1e-9).problem
    (folder / "model.skops").write_bytes(b"cut short")
    broken = query_version(made, folder, frame, said)
    assert "zip" in broken.problem.lower()
    assert np.isnan(broken.one_row_ms)
    assert replace(broken, problem="").rows == 0


def grouped(rate_of: dict[str, float]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A thousand rows a group, in which the shares that are predicted positive are given."""
    parts, outcome, said = [], [], []
    for name, share in rate_of.items():
        parts += [name] * 1000
        outcome += [1] * 500 + [0] * 500
        said += ([1.0] * int(500 * share) + [0.0] * (500 - int(500 * share))) * 2
    return pd.DataFrame({"c": parts}), np.array(outcome), np.array(said)


@pytest.mark.parametrize(
    ("metric", "gap"),
    [("demographic_parity_difference", 0.3), ("equalized_odds_difference", 0.3), ("accuracy_difference", 0.0)],
)
def test_a_known_gap_between_groups_is_found(metric, gap):
    """60 %, 40 % and 30 % of the groups are predicted positive, whatever their outcome: both rates differ by 30 points."""
    frame, outcome, said = grouped({"a": 0.6, "b": 0.4, "c": 0.3})
    rule = Fairness(column="c", metric=metric, at_most=0.1)
    found = measure_gap(rule, frame, outcome, said, config())
    assert found.gap == pytest.approx(gap)
    assert found.groups == {"a": 1000, "b": 1000, "c": 1000}


def test_a_gap_with_a_group_too_small_cannot_be_judged():
    frame, outcome, said = grouped({"a": 0.6, "b": 0.4})
    frame.loc[0, "c"] = None
    assert np.isnan(measure_gap(Fairness(column="c", at_most=0.1), frame, outcome, said, config()).gap)


def test_mean_error_differs_by_group_for_regression():
    frame = pd.DataFrame({"c": ["a"] * 500 + ["b"] * 500})
    rule = Fairness(column="c", metric="mean_error_difference", at_most=0.1)
    error = np.r_[np.full(500, 0.5), np.full(500, -2.0)]
    found = measure_gap(rule, frame, np.zeros(1000), error, config("regression"))
    assert found.gap == pytest.approx(1.5)
