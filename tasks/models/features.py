"""Inputs of a model, and predictions of a fitted model.

Numbers are float64, categories are strings, and null is NaN in both. scikit-learn's encoders treat NaN as missing, but None as a
category.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.features import Features
from configs.schema import ModelConfig
from tasks.errors import MissingFeature
from tasks.models.encoding_tables import NoPredictionPlan
from tasks.models.fast_predict import fitted_features, plan_of

if TYPE_CHECKING:
    import pandas as pd


def inputs_of(frame: "pd.DataFrame", features: Features) -> "pd.DataFrame":
    """Return the feature columns in their declared order, numbers as float64 and categories as object, nulls as NaN.

    Raises:
        MissingFeature: A feature is not among the columns.
    """
    import pandas as pd

    require_features(frame, features)
    numbers = frame[list(features.numeric)].astype("float64")
    texts = frame[list(features.categorical)].astype(object)
    return pd.concat([numbers, texts.where(texts.notna(), np.nan)], axis=1)


def require_features(frame: "pd.DataFrame", features: Features) -> None:
    """Require that a frame has every feature.

    Raises:
        MissingFeature: A feature is not among the columns.
    """
    if missing := [name for name in features.all if name not in frame.columns]:
        raise MissingFeature(
            f"the model was fitted with {', '.join(missing)}, which these rows do not have. If you removed it: keep it among the "
            f"features of model.yaml and add it to `features.retired` until no version in use needs it. If you just added it: "
            f"run `backfill` with mode=stale"
        )


def input_features(model: Any, config: ModelConfig) -> Features:
    """Return the features that a model was fitted with, or those of model.yaml if the model is not one of our pipelines."""
    try:
        return fitted_features(model)
    except NoPredictionPlan:
        return config.features.active


def predict(model: Any, frame: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """Predict each row, by the features that the model was fitted with.

    Uses the model's prediction plan if it has one, else the model itself. Both give bitwise equal predictions.

    Returns:
        float64, with the shape that `tasks/models/targets.py` defines for the target's kind.

    Raises:
        MissingFeature: A feature is not among the columns.
    """
    kind = config.target.kind
    if frame.empty:
        return np.empty((0, len(config.target.classes)) if kind == "multiclass" else 0)
    features = input_features(model, config)
    require_features(frame, features)
    try:
        plan = plan_of(model)
        estimator, inputs = plan.estimator, plan.matrix(frame)
    except NoPredictionPlan:
        estimator, inputs = model, inputs_of(frame, features)
    if kind == "regression":
        return estimator.predict(inputs).astype("float64")
    probabilities = estimator.predict_proba(inputs).astype("float64")
    return probabilities[:, 1] if kind == "binary" else probabilities
