"""Inputs of a model, and what a fitted pipeline predicts from them. Imports no Prefect.

Numbers are float64, categories strings, and null is NaN in both: scikit-learn's encoders take
NaN for missing, but None for one more category.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import Features, ModelConfig

if TYPE_CHECKING:
    import pandas as pd


def inputs_of(frame: "pd.DataFrame", features: Features) -> "pd.DataFrame":
    """The feature columns in their declared order and types, nulls as NaN.

    Raises:
        KeyError: a feature is missing; the message names it.
    """
    missing = [name for name in features.all if name not in frame.columns]
    if missing:
        raise KeyError(f"missing features: {', '.join(missing)}")
    numbers = frame[list(features.numeric)].astype("float64")
    texts = frame[list(features.categorical)].astype(object)
    return numbers.join(texts.where(texts.notna(), np.nan))


def predict(pipeline: Any, frame: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """The prediction of each row as float64, in the form that `tasks/targets.py` tells."""
    kind = config.target.kind
    if frame.empty:
        return np.empty((0, len(config.target.classes)) if kind == "multiclass" else 0)
    inputs = inputs_of(frame, config.features)
    if kind == "regression":
        return pipeline.predict(inputs).astype("float64")
    found = pipeline.predict_proba(inputs).astype("float64")
    return found[:, 1] if kind == "binary" else found
