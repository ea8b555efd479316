"""Inputs of a model, and what a fitted model predicts from them.

Numbers are float64, categories strings, and null is NaN in both: scikit-learn's encoders take
NaN for missing, but None for one more category.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.features import Features
from configs.schema import ModelConfig
from tasks.errors import MissingFeature
from tasks.models.fast_predict import NoPlan, features_of, plan_of

if TYPE_CHECKING:
    import pandas as pd


def inputs_of(frame: "pd.DataFrame", features: Features) -> "pd.DataFrame":
    """The feature columns in their declared order and types, nulls as NaN.

    Raises:
        MissingFeature: one is not among the columns.
    """
    import pandas as pd

    require_features(frame, features)
    numbers = frame[list(features.numeric)].astype("float64")
    texts = frame[list(features.categorical)].astype(object)
    return pd.concat([numbers, texts.where(texts.notna(), np.nan)], axis=1)


def require_features(frame: "pd.DataFrame", features: Features) -> None:
    """Raises MissingFeature where one is not among the columns."""
    if missing := [name for name in features.all if name not in frame.columns]:
        raise MissingFeature(
            f"the model was fitted with {', '.join(missing)}, which these rows do not have: keep it among the features of "
            f"model.yaml, and in `features.retired` so that new versions do without it, until no version in use needs it; "
            f"where it was only just added, `backfill` with mode=stale"
        )


def inputs_wanted(model: Any, config: ModelConfig) -> Features:
    """The inputs of a fitted model: those it was fitted with, by model.yaml where it does not say."""
    try:
        return features_of(model)
    except NoPlan:
        return config.features.learned


def predict(model: Any, frame: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """The prediction of each row as float64, in the form that `tasks/models/targets.py` tells.

    By the model's plan where there is one, else by the model as it is: both say the same to the bit. Its inputs are those that it
    was fitted with, whatever model.yaml says by now.

    Raises:
        MissingFeature: one of them is not among the columns.
    """
    kind = config.target.kind
    if frame.empty:
        return np.empty((0, len(config.target.classes)) if kind == "multiclass" else 0)
    features = inputs_wanted(model, config)
    require_features(frame, features)
    try:
        plan = plan_of(model)
        estimator, inputs = plan.estimator, plan.matrix(frame)
    except NoPlan:
        estimator, inputs = model, inputs_of(frame, features)
    if kind == "regression":
        return estimator.predict(inputs).astype("float64")
    found = estimator.predict_proba(inputs).astype("float64")
    return found[:, 1] if kind == "binary" else found
