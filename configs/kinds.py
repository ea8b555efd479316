"""Kinds of targets, with their metrics and estimators.

Only these estimators and parameters are allowed. So a model file loads without running unknown code, and a typo fails when
the config is read, not after an hour of search. A test compares every name with scikit-learn and XGBoost.
"""

from collections.abc import Mapping
from typing import Literal

Kind = Literal["binary", "multiclass", "regression"]
Loss = Literal["log_loss", "squared_error", "absolute_error"]
Estimator = Literal["xgboost", "hist_gradient_boosting", "random_forest", "extra_trees", "logistic_regression", "ridge"]

LOSSES: Mapping[Kind, tuple[Loss, ...]] = {
    "binary": ("log_loss",),
    "multiclass": ("log_loss",),
    "regression": ("squared_error", "absolute_error"),
}
"""Losses by which models are compared. The first one is the default."""

METRICS: Mapping[Kind, tuple[str, ...]] = {
    "binary": (
        "roc_auc",
        "log_loss",
        "accuracy",
        "average_precision",
        "brier",
        "calibration_error",
        "base_rate",
        "mean_prediction",
    ),
    "multiclass": ("log_loss", "accuracy", "macro_f1", "roc_auc", "calibration_error"),
    "regression": (
        "squared_error",
        "absolute_error",
        "rmse",
        "r2",
        "calibration_error",
        "mean_outcome",
        "mean_prediction",
    ),
}
HIGHER_IS_BETTER = ("roc_auc", "average_precision", "accuracy", "macro_f1", "r2")
LOWER_IS_BETTER = ("log_loss", "brier", "calibration_error", "squared_error", "absolute_error", "rmse")
"""Metrics that can have a `floor`. The others only describe the data."""

_BOOSTED = (
    "n_estimators learning_rate max_depth max_leaves max_bin grow_policy min_child_weight max_delta_step gamma "
    "subsample colsample_bytree colsample_bylevel colsample_bynode reg_alpha reg_lambda num_parallel_tree "
    "scale_pos_weight max_cat_to_onehot max_cat_threshold"
)
_FOREST = (
    "n_estimators criterion max_depth min_samples_split min_samples_leaf max_features max_leaf_nodes "
    "min_impurity_decrease bootstrap max_samples ccp_alpha"
)
PARAMETERS: Mapping[Estimator, tuple[str, ...]] = {
    "xgboost": tuple(_BOOSTED.split()),
    "hist_gradient_boosting": (
        "learning_rate",
        "max_iter",
        "max_leaf_nodes",
        "max_depth",
        "min_samples_leaf",
        "l2_regularization",
        "max_features",
        "max_bins",
    ),
    "random_forest": tuple(_FOREST.split()),
    "extra_trees": tuple(_FOREST.split()),
    "logistic_regression": ("C", "l1_ratio", "tol", "max_iter", "class_weight", "solver"),
    "ridge": ("alpha", "tol", "max_iter"),
}
KINDS: Mapping[Estimator, tuple[Kind, ...]] = {
    "xgboost": ("binary", "multiclass", "regression"),
    "hist_gradient_boosting": ("binary", "multiclass", "regression"),
    "random_forest": ("binary", "multiclass", "regression"),
    "extra_trees": ("binary", "multiclass", "regression"),
    "logistic_regression": ("binary", "multiclass"),
    "ridge": ("regression",),
}
LINEAR: Mapping[Kind, Estimator] = {
    "binary": "logistic_regression",
    "multiclass": "logistic_regression",
    "regression": "ridge",
}
"""The linear baseline of each kind, which candidates must beat."""
