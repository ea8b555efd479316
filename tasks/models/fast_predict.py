"""Predict with NumPy arrays instead of scikit-learn's ColumnTransformer, bitwise equal and in less time.

A pipeline of `tasks/models/estimators.py` keeps numbers or imputes and scales them, turns categories into codes or one-hot columns,
and passes a matrix to the estimator. ColumnTransformer takes ten milliseconds a call for that. A prediction plan queries the fitted
encoder once for each category and keeps the codes in a lookup table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from configs.features import Features
from tasks.models.encoding_tables import CategoryCodes, LinearInputs, NoPredictionPlan, encoding_tables

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline


class XGBoostTrees:
    """XGBoost's trees without the checks of its scikit-learn wrapper: one row takes a third of the time."""

    def __init__(self, estimator: Any) -> None:
        self.estimator, self.booster = estimator, estimator.get_booster()
        self.missing, self.rounds = estimator.missing, estimator._get_iteration_range(None)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Predict float32 of shape (rows,): values or probabilities of class 1; for more than two classes (rows, classes)."""
        return self.booster.inplace_predict(matrix, iteration_range=self.rounds, missing=self.missing)

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        """Predict float32 probabilities of shape (rows, classes)."""
        prediction = self.predict(matrix)
        return np.column_stack((1.0 - prediction, prediction)) if prediction.ndim == 1 else prediction


@dataclass(frozen=True)
class PredictionPlan:
    """A model whose inputs are encoded by lookup tables. `estimator` accepts the matrix."""

    features: Features
    codes: Sequence[CategoryCodes]
    estimator: Any
    fitted: tuple[Any, ...]
    """Fitted state of encoder and estimator, to detect that they were fitted again."""
    linear: LinearInputs | None = None

    def matrix(self, rows: "pd.DataFrame | Mapping[str, Any]") -> Any:
        """Build the estimator's inputs, float64 of shape (rows, ...), from a frame or a mapping of columns that has every feature."""
        numeric, categorical = self.features.numeric, self.features.categorical
        encoded = np.empty((len(rows[self.features.all[0]]), len(numeric) + len(categorical)))
        for at, name in enumerate(numeric):
            encoded[:, at] = numbers(rows[name])
        for at, (name, codes) in enumerate(zip(categorical, self.codes, strict=True), start=len(numeric)):
            encoded[:, at] = codes.encode(rows[name])
        return self.linear.matrix(encoded[:, : len(numeric)], encoded[:, len(numeric) :]) if self.linear else encoded

    def set_threads(self, threads: int) -> None:
        """Set the number of threads with which XGBoost predicts. Predictions do not depend on it."""
        inner = getattr(self.estimator, "estimator", self.estimator)
        if hasattr(inner, "get_booster"):
            inner.get_booster().set_param({"nthread": threads})


def numbers(values: "pd.Series | list[Any] | np.ndarray") -> np.ndarray:
    """Convert a column to float64 of shape (rows,), null as NaN."""
    if isinstance(values, list | np.ndarray):
        return np.asarray(values, dtype="float64")
    return values.to_numpy(dtype="float64", na_value=np.nan)


_PLANS: "WeakKeyDictionary[Any, PredictionPlan]" = WeakKeyDictionary()


def plan_of(model: Any) -> PredictionPlan:
    """Return the prediction plan of a fitted model. Plans are cached until the model is fitted again.

    Raises:
        NoPredictionPlan: The model is not one of our pipelines, or its encoder does more than impute, scale and code categories.
    """
    pipeline = pipeline_of(model)
    fitted, features = (
        (_fitted_transformers(pipeline), getattr(pipeline["estimate"], "_Booster", None)),
        fitted_features(model),
    )
    plan = _PLANS.get(model)
    if plan is None or any(old is not new for old, new in zip(plan.fitted, fitted, strict=True)):
        codes, linear = encoding_tables(pipeline["encode"], features)
        plan = _PLANS[model] = PredictionPlan(features, codes, _final_estimator(model, pipeline), fitted, linear)
    return plan


def fitted_features(model: Any) -> Features:
    """Return the features that a model was fitted with, in its own order. Those of model.yaml may have changed since.

    Raises:
        NoPredictionPlan: The model is not one of our pipelines.
    """
    columns = {name: tuple(names) for name, _, names in _fitted_transformers(pipeline_of(model))}
    return Features(numeric=columns.get("number", ()), categorical=columns.get("category", ()))


def fix_summation_order(model: Any) -> Any:
    """Make a forest's predictions deterministic, in place: threads add up the trees in the order in which they end, so use one thread."""
    try:
        estimator = pipeline_of(model)["estimate"]
    except NoPredictionPlan:
        return model
    if hasattr(estimator, "estimators_") and hasattr(estimator, "n_jobs"):
        estimator.n_jobs = 1
    return model


def _fitted_transformers(pipeline: "Pipeline") -> Any:
    if (fitted := getattr(pipeline["encode"], "transformers_", None)) is None:
        raise NoPredictionPlan(f"its encoder is a {type(pipeline['encode']).__name__}")
    return fitted


def pipeline_of(model: Any) -> "Pipeline":
    """Return the pipeline of a model, calibrated or not.

    Raises:
        NoPredictionPlan: The model is not one of our pipelines.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import Pipeline

    inner = model.calibrated_classifiers_[0].estimator if isinstance(model, CalibratedClassifierCV) else model
    inner = inner.estimator if isinstance(inner, FrozenEstimator) else inner
    if not isinstance(inner, Pipeline) or list(inner.named_steps) != ["encode", "estimate"]:
        raise NoPredictionPlan(f"{type(inner).__name__} is not one of our pipelines")
    return inner


def _final_estimator(model: Any, pipeline: "Pipeline") -> Any:
    """Return the step after the encoder: the estimator, calibrated if the model is calibrated."""
    from sklearn.calibration import CalibratedClassifierCV, _CalibratedClassifier

    if not isinstance(model, CalibratedClassifierCV):
        return _trees(pipeline["estimate"])
    (fitted,) = model.calibrated_classifiers_
    return _CalibratedClassifier(
        estimator=pipeline["estimate"], calibrators=fitted.calibrators, classes=fitted.classes, method=fitted.method
    )


def _trees(estimator: Any) -> Any:
    """Return the trees of an XGBoost model. Return any other estimator unchanged, and XGBoost's if its class postprocesses predictions."""
    plain = type(estimator).__name__ in ("XGBClassifier", "XGBRegressor") and estimator.booster != "gblinear"
    return XGBoostTrees(estimator) if plain and estimator.objective != "multi:softmax" else estimator
