"""The estimators that model.yaml may name, each with the preprocessing it needs, as one scikit-learn pipeline.

The preprocessing is part of the fitted pipeline: what it learned at fit time it uses at every
prediction. A category that training did not see counts as missing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.features import Features
from configs.schema import ModelConfig
from tasks.contracts import Recipe
from tasks.models.fast_predict import summed_in_order

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def build_pipeline(recipe: Recipe, config: ModelConfig, threads: int) -> "Pipeline":
    """An unfitted pipeline of a recipe's preprocessing and estimator."""
    from sklearn.pipeline import Pipeline

    build = _BUILDERS[recipe.estimator]
    encoder, estimator = build(config, dict(recipe.params), threads)
    return Pipeline([("encode", encoder), ("estimate", estimator)])


def _coded(features: Features, most: int | None = None) -> Any:
    """Numbers as they are, categories as codes; what is unknown or null is missing (NaN)."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        dtype=np.float64,
        max_categories=most,
    )
    return ColumnTransformer(
        [("number", "passthrough", list(features.numeric)), ("category", codes, list(features.categorical))]
    )


def _scaled(features: Features) -> Any:
    """Numbers imputed by their mean and scaled, categories one-hot encoded; rare ones share a column."""
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
    """Categories are split as sets."""
    from xgboost import XGBClassifier, XGBRegressor

    features = config.features.learned
    given: dict[str, Any] = {
        "tree_method": "hist",
        "enable_categorical": True,
        "feature_types": ["q"] * len(features.numeric) + ["c"] * len(features.categorical),
        "n_jobs": threads,
        "random_state": config.training.seed,
    }
    if config.target.kind != "regression":
        return _coded(features), XGBClassifier(**(given | params))
    objective = "reg:absoluteerror" if config.target.judged_by == "absolute_error" else "reg:squarederror"
    return _coded(features), XGBRegressor(**(given | {"objective": objective} | params))


def _hist_gradient_boosting(config: ModelConfig, params: dict[str, Any], threads: int) -> tuple[Any, Any]:
    """Categories are split as sets; it takes at most 255 of them, so rare ones of long lists share a code."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    features = config.features.learned
    categorical = [False] * len(features.numeric) + [True] * len(features.categorical)
    # Without early_stopping=False it would hold rows back at random, later ones among them.
    given = {"categorical_features": categorical, "random_state": config.training.seed, "early_stopping": False}
    if config.target.kind != "regression":
        return _coded(features, 200), HistGradientBoostingClassifier(**(given | params))
    return _coded(features, 200), HistGradientBoostingRegressor(**(given | {"loss": config.target.judged_by} | params))


def _forest(classifier: str, regressor: str) -> Callable[[ModelConfig, dict[str, Any], int], tuple[Any, Any]]:
    def build(config: ModelConfig, params: dict[str, Any], threads: int) -> tuple[Any, Any]:
        from sklearn import ensemble

        given = {"n_jobs": threads, "random_state": config.training.seed}
        name = regressor if config.target.kind == "regression" else classifier
        return _coded(config.features.learned), getattr(ensemble, name)(**(given | params))

    return build


def _logistic_regression(config: ModelConfig, params: dict[str, Any], threads: int) -> tuple[Any, Any]:
    from sklearn.linear_model import LogisticRegression

    # Newton's steps take a tenth of the time of the default solver where rows are many and columns some hundreds.
    given = {"max_iter": 500, "solver": "newton-cholesky", "random_state": config.training.seed}
    return _scaled(config.features.learned), LogisticRegression(**(given | params))


def _ridge(config: ModelConfig, params: dict[str, Any], threads: int) -> tuple[Any, Any]:
    from sklearn.linear_model import Ridge

    return _scaled(config.features.learned), Ridge(**({"random_state": config.training.seed} | params))


_BUILDERS = {
    "xgboost": _xgboost,
    "hist_gradient_boosting": _hist_gradient_boosting,
    "random_forest": _forest("RandomForestClassifier", "RandomForestRegressor"),
    "extra_trees": _forest("ExtraTreesClassifier", "ExtraTreesRegressor"),
    "logistic_regression": _logistic_regression,
    "ridge": _ridge,
}

TRUSTED = (
    "collections.OrderedDict",
    "functools.partial",  # of check_array, in HistGradientBoosting's preprocessing; a function it names must be trusted too
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
)
"""Classes beyond skops' own list that a model file may name; none of them runs code when it is read.

A forged tree could still read beyond its memory when it predicts: what decides in production is loaded with the
digest that stands in the ledger (`Registry.load`).
"""


def read_model(file: Path | bytes) -> Any:
    """A fitted model from its file, or from what is in it, as it predicts here."""
    from skops.io import load, loads

    trusted = list(TRUSTED)
    return summed_in_order(loads(file, trusted=trusted) if isinstance(file, bytes) else load(file, trusted=trusted))
