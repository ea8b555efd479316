"""Fit a pipeline of `tasks/models/estimators.py`: the same model as scikit-learn's own `fit`, in less time."""

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.features import Features
from tasks.models.fast_predict import NoPlan, Plan, summed_in_order, tables
from tasks.models.features import inputs_of

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

FITTING = threading.Lock()
"""A fit takes all cores that the setting allows, so in one process there is one at a time: two would hold each other up."""


def fit_pipeline(pipeline: "Pipeline", rows: "pd.DataFrame", outcome: np.ndarray, features: Features) -> "Pipeline":
    """Fit one of our pipelines on some rows; the model is that of `pipeline.fit`.

    An encoder that learns nothing but which categories there are is shown each of them once, and the rows are coded by its tables.
    """
    with FITTING:
        return summed_in_order(_fitted(pipeline, rows, outcome, features))


def _fitted(pipeline: "Pipeline", rows: "pd.DataFrame", outcome: np.ndarray, features: Features) -> "Pipeline":
    encoder, estimator = pipeline["encode"], pipeline["estimate"]
    if not _learns_categories_alone(encoder):
        return pipeline.fit(inputs_of(rows, features), outcome)
    encoder.fit(inputs_of(_each_once(rows, features), features))
    try:
        codes, _ = tables(encoder, features)
        matrix = Plan(features, codes, estimator, ()).matrix(rows)
    except NoPlan:
        return pipeline.fit(inputs_of(rows, features), outcome)
    estimator.fit(matrix, outcome)
    return pipeline


def _learns_categories_alone(encoder: Any) -> bool:
    """Whether an unfitted encoder only codes categories, however often each occurs."""
    from sklearn.preprocessing import OrdinalEncoder

    parts = {name: part for name, part, _ in encoder.transformers}
    ordinal = parts.get("category")
    return (
        parts.get("number") == "passthrough"
        and isinstance(ordinal, OrdinalEncoder)
        and not (ordinal.max_categories or ordinal.min_frequency)
    )


def _each_once(rows: "pd.DataFrame", features: Features) -> "pd.DataFrame":
    """As few rows as have every category, and null where a column has one; numbers are those of the first rows."""
    import pandas as pd

    found = {name: rows[name].drop_duplicates().reset_index(drop=True) for name in features.categorical}
    count = max(1, *(len(values) for values in found.values())) if found else 1
    padded = {name: values.reindex(range(count), fill_value=values.iloc[0]) for name, values in found.items()}
    numbers = rows[list(features.numeric)].head(1)
    return pd.DataFrame(padded, index=range(count)).join(
        numbers.loc[numbers.index.repeat(count)].reset_index(drop=True)
    )
