"""The fitted half of a model: preprocessing and estimator as one scikit-learn pipeline. Imports no Prefect.

Numbers are float64, categories strings, and null is NaN in both: scikit-learn's encoders take
NaN for missing, but None for one more category. A category that training did not see counts
as missing.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import Candidate, Features
from tasks.lake import digest_bytes, digest_json

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline


def build_pipeline(candidate: Candidate, features: Features, threads: int, seed: int) -> "Pipeline":
    """An unfitted pipeline of a candidate's preprocessing and estimator."""
    from sklearn.pipeline import Pipeline

    build = {"xgboost": _xgboost, "logistic_regression": _logistic}[candidate.estimator]
    encoder, estimator = build(candidate, features, threads, seed)
    return Pipeline([("encode", encoder), ("estimate", estimator)])


def _xgboost(candidate: Candidate, features: Features, threads: int, seed: int) -> tuple[Any, Any]:
    """Categories become codes that XGBoost splits as sets; what is unknown or null is missing."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OrdinalEncoder
    from xgboost import XGBClassifier

    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, dtype=np.float64
    )
    encoder = ColumnTransformer(
        [("number", "passthrough", list(features.numeric)), ("category", codes, list(features.categorical))]
    )
    kinds = ["q"] * len(features.numeric) + ["c"] * len(features.categorical)
    given = {
        "tree_method": "hist",
        "enable_categorical": True,
        "feature_types": kinds,
        "n_jobs": threads,
        "random_state": seed,
    }
    return encoder, XGBClassifier(**(given | dict(candidate.params)))


def _logistic(candidate: Candidate, features: Features, threads: int, seed: int) -> tuple[Any, Any]:
    """Numbers are imputed and scaled, categories one-hot encoded."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    number = Pipeline(
        [("impute", SimpleImputer(add_indicator=True, keep_empty_features=True)), ("scale", StandardScaler())]
    )
    encoder = ColumnTransformer(
        [
            ("number", number, list(features.numeric)),
            ("category", OneHotEncoder(handle_unknown="ignore", min_frequency=50), list(features.categorical)),
        ]
    )
    return encoder, LogisticRegression(**({"max_iter": 500, "random_state": seed} | dict(candidate.params)))


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


def predict(pipeline: "Pipeline", frame: "pd.DataFrame", features: Features) -> np.ndarray:
    """The probability of the positive class of each row, as float64."""
    if frame.empty:
        return np.empty(0)
    return pipeline.predict_proba(inputs_of(frame, features))[:, 1].astype("float64")


def model_digest(pipeline: "Pipeline") -> str:
    """Digest of parameters and fitted state: equal for equal models, whatever file they are kept in."""
    return digest_json(_state(pipeline))


def _state(value: Any) -> Any:
    """A JSON form of an estimator, its parameters and everything that fitting set."""
    if hasattr(value, "get_booster"):
        return {
            "parameters": _state(_settled(value)),
            "booster": digest_bytes(bytes(value.get_booster().save_raw("ubj"))),
        }
    if hasattr(value, "get_params"):
        return {"class": type(value).__name__, "parameters": _state(_settled(value)), "fitted": _state(_fitted(value))}
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "values": _state(value.tolist())}
    if isinstance(value, dict):
        return {str(k): _state(v) for k, v in sorted(value.items(), key=lambda item: str(item[0]))}
    if isinstance(value, list | tuple):
        return [_state(v) for v in value]
    return value if isinstance(value, str | int | bool | type(None)) else json.dumps(str(value))


def _settled(estimator: Any) -> dict[str, Any]:
    """Parameters that decide the model; the number of threads at scoring does not."""
    return {k: v for k, v in estimator.get_params(deep=False).items() if k != "n_jobs"}


def _fitted(estimator: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(estimator).items() if k.endswith("_") and not k.startswith("_")}
