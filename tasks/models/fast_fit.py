"""Fit a pipeline of `tasks/models/estimators.py` in less time than scikit-learn's own `fit`. The fitted model is the same."""

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.features import Features
from tasks.models.encoding_tables import NoPredictionPlan, encoding_tables
from tasks.models.fast_predict import PredictionPlan, fix_summation_order
from tasks.models.features import inputs_of

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

FIT_LOCK = threading.Lock()
"""A fit uses all cores that the settings allow, so a process runs one fit at a time."""


def fit_pipeline(pipeline: "Pipeline", rows: "pd.DataFrame", outcome: np.ndarray, features: Features) -> "Pipeline":
    """Fit a pipeline in place. The fitted model is equal to that of `pipeline.fit`.

    If the encoder only learns which categories exist, it is fitted on one row a category, and the rows are encoded by its lookup tables.

    Args:
        rows: Rows with all features.
        outcome: Outcome of each row, as returned by `targets.outcomes`.
    """
    with FIT_LOCK:
        return fix_summation_order(_fit(pipeline, rows, outcome, features))


def _fit(pipeline: "Pipeline", rows: "pd.DataFrame", outcome: np.ndarray, features: Features) -> "Pipeline":
    encoder, estimator = pipeline["encode"], pipeline["estimate"]
    if not _only_codes_categories(encoder):
        return pipeline.fit(inputs_of(rows, features), outcome)
    encoder.fit(inputs_of(_distinct_values(rows, features), features))
    try:
        codes, _ = encoding_tables(encoder, features)
        matrix = PredictionPlan(features, codes, estimator, ()).matrix(rows)
    except NoPredictionPlan:
        return pipeline.fit(inputs_of(rows, features), outcome)
    estimator.fit(matrix, outcome)
    return pipeline


def _only_codes_categories(encoder: Any) -> bool:
    """Return whether an unfitted encoder only codes categories, independent of their frequencies."""
    from sklearn.preprocessing import OrdinalEncoder

    parts = {name: part for name, part, _ in encoder.transformers}
    ordinal = parts.get("category")
    return (
        parts.get("number") == "passthrough"
        and isinstance(ordinal, OrdinalEncoder)
        and not (ordinal.max_categories or ordinal.min_frequency)
    )


def _distinct_values(rows: "pd.DataFrame", features: Features) -> "pd.DataFrame":
    """Return the fewest rows that contain every category, and null if a column has nulls. Numbers are those of the first row."""
    import pandas as pd

    distinct = {name: rows[name].drop_duplicates().reset_index(drop=True) for name in features.categorical}
    count = max(1, *(len(values) for values in distinct.values())) if distinct else 1
    padded = {name: values.reindex(range(count), fill_value=values.iloc[0]) for name, values in distinct.items()}
    numbers = rows[list(features.numeric)].head(1)
    return pd.DataFrame(padded, index=range(count)).join(
        numbers.loc[numbers.index.repeat(count)].reset_index(drop=True)
    )
