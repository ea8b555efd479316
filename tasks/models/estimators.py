"""The estimators that model.yaml may name, each with its preprocessing as one scikit-learn pipeline.

The preprocessing is part of the fitted pipeline. A category that is not in the training data counts as missing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from upath import UPath

from configs.features import Features
from configs.schema import ModelConfig
from tasks.contracts import Recipe
from tasks.errors import ForgedVersion
from tasks.models.fast_predict import fix_summation_order
from tasks.models.fingerprint import model_digest

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def build_pipeline(recipe: Recipe, config: ModelConfig, threads: int) -> "Pipeline":
    """Return an unfitted pipeline of a recipe's preprocessing and estimator, in steps `encode` and `estimate`."""
    from sklearn.pipeline import Pipeline

    build = _BUILDERS[recipe.estimator]
    encoder, estimator = build(config, dict(recipe.params), threads)
    return Pipeline([("encode", encoder), ("estimate", estimator)])


def _ordinal_encoding(features: Features, max_categories: int | None = None) -> Any:
    """Return an encoder that keeps numbers and turns categories into codes; unknown categories and nulls become NaN."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        dtype=np.float64,
        max_categories=max_categories,
    )
    return ColumnTransformer(
        [("number", "passthrough", list(features.numeric)), ("category", codes, list(features.categorical))]
    )


def _linear_encoding(features: Features) -> Any:
    """Return an encoder that imputes numbers by their mean, scales them, and one-hot encodes categories; rare ones share a column."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    number = Pipeline(
        [("impute", SimpleImputer(add_indicator=True, keep_empty_features=True)), ("scale", StandardScaler())]
    )
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=50, max_categories=200)
    return ColumnTransformer(
        [("number", number, list(features.numeric)), ("category", one_hot, list(features.categorical))]
    )


def _xgboost(config: ModelConfig, params: dict[str, Any], threads: int) -> tuple[Any, Any]:
    """Build XGBoost. Categories are split by partitions of their values, not by order of their codes."""
    from xgboost import XGBClassifier, XGBRegressor

    features = config.features.active
    defaults: dict[str, Any] = {
        "tree_method": "hist",
        "enable_categorical": True,
        "feature_types": ["q"] * len(features.numeric) + ["c"] * len(features.categorical),
        "n_jobs": threads,
        "random_state": config.training.seed,
    }
    if config.target.kind != "regression":
        return _ordinal_encoding(features), XGBClassifier(**(defaults | params))
    objective = "reg:absoluteerror" if config.target.eval_loss == "absolute_error" else "reg:squarederror"
    return _ordinal_encoding(features), XGBRegressor(**(defaults | {"objective": objective} | params))


def _hist_gradient_boosting(config: ModelConfig, params: dict[str, Any], threads: int) -> tuple[Any, Any]:
    """Build HistGradientBoosting. It accepts at most 255 categories a column, so rare categories share a code."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    features = config.features.active
    categorical = [False] * len(features.numeric) + [True] * len(features.categorical)
    # With early stopping it would validate on randomly chosen rows, later ones among them.
    defaults = {"categorical_features": categorical, "random_state": config.training.seed, "early_stopping": False}
    if config.target.kind != "regression":
        return _ordinal_encoding(features, 200), HistGradientBoostingClassifier(**(defaults | params))
    return _ordinal_encoding(features, 200), HistGradientBoostingRegressor(
        **(defaults | {"loss": config.target.eval_loss} | params)
    )


def _forest(classifier: str, regressor: str) -> Callable[[ModelConfig, dict[str, Any], int], tuple[Any, Any]]:
    def build(config: ModelConfig, params: dict[str, Any], threads: int) -> tuple[Any, Any]:
        from sklearn import ensemble

        defaults = {"n_jobs": threads, "random_state": config.training.seed}
        name = regressor if config.target.kind == "regression" else classifier
        return _ordinal_encoding(config.features.active), getattr(ensemble, name)(**(defaults | params))

    return build


def _logistic_regression(config: ModelConfig, params: dict[str, Any], threads: int) -> tuple[Any, Any]:
    from sklearn.linear_model import LogisticRegression

    # With many rows and some hundreds of columns this solver takes a tenth of the default solver's time.
    defaults = {"max_iter": 500, "solver": "newton-cholesky", "random_state": config.training.seed}
    return _linear_encoding(config.features.active), LogisticRegression(**(defaults | params))


def _ridge(config: ModelConfig, params: dict[str, Any], threads: int) -> tuple[Any, Any]:
    from sklearn.linear_model import Ridge

    return _linear_encoding(config.features.active), Ridge(**({"random_state": config.training.seed} | params))


_BUILDERS = {
    "xgboost": _xgboost,
    "hist_gradient_boosting": _hist_gradient_boosting,
    "random_forest": _forest("RandomForestClassifier", "RandomForestRegressor"),
    "extra_trees": _forest("ExtraTreesClassifier", "ExtraTreesRegressor"),
    "logistic_regression": _logistic_regression,
    "ridge": _ridge,
}

TRUSTED_TYPES = (
    "collections.OrderedDict",
    "functools.partial",  # of check_array, in HistGradientBoosting's preprocessing; the wrapped function must be trusted too
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
)
"""Classes beyond skops' own list that a model file may name. None of them executes code when it is loaded.

A manipulated tree could still read memory out of bounds when it predicts. So production checks a model against the digest in the
ledger before it predicts (`Registry.load`).
"""


def read_model(file: Path | UPath, digest: str = "") -> Any:
    """Load a fitted model from a skops file.

    Args:
        digest: The digest that the model must have, by `model_digest`; empty for no check.

    Raises:
        ForgedVersion: The file is missing or damaged, contains other types than our models, or is another model.
    """
    from skops.io import loads

    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise ForgedVersion(f"{file} does not exist") from error
    try:
        model = fix_summation_order(loads(content, trusted=list(TRUSTED_TYPES)))
        actual = model_digest(model, like=digest) if digest else ""
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes zipfile, json, skops, NumPy and XGBoost raise errors of any type
        raise ForgedVersion(f"{file} cannot be read as a model ({type(error).__name__}: {error})") from error
    if actual != digest:
        raise ForgedVersion(f"{file} is another model than the registered one: its digest is {actual}, not {digest}")
    return model
