"""Fairness: the gap of a metric between the groups of a column, by fairlearn."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from configs.gate import Fairness as FairnessRule
from configs.schema import ModelConfig
from tasks.contracts import Fairness
from tasks.storage.personal import hide_categories

if TYPE_CHECKING:
    import pandas as pd


def measure_gap(
    rule: FairnessRule, rows: "pd.DataFrame", outcome: np.ndarray, prediction: np.ndarray, config: ModelConfig
) -> Fairness:
    """Measure the gap between the groups of a column with fairlearn.

    The gap is the difference between the largest and the smallest value of any group (fairlearn's `method="between_groups"`).
    It is NaN for fewer than two groups or if a group has fewer rows than `rule.min_rows`.
    """
    rows = hide_categories(config, rows[[rule.column]])
    groups = rows[rule.column].astype(object).where(rows[rule.column].notna(), "(null)")
    sizes: Mapping[str, int] = {str(k): int(v) for k, v in groups.value_counts().sort_index().items()}
    if len(sizes) < 2 or min(sizes.values()) < rule.min_rows:
        return Fairness(rule.column, rule.metric, float("nan"), sizes)
    return Fairness(rule.column, rule.metric, group_gap(rule, groups, outcome, prediction, config), sizes)


def group_gap(
    rule: FairnessRule, groups: "pd.Series", outcome: np.ndarray, prediction: np.ndarray, config: ModelConfig
) -> float:
    """Compute the gap between groups, which are aligned with outcome and prediction."""
    from fairlearn import metrics
    from sklearn.metrics import accuracy_score, mean_absolute_error

    if rule.metric == "mean_error_difference":
        frame = metrics.MetricFrame(
            metrics=mean_absolute_error, y_true=outcome, y_pred=prediction, sensitive_features=groups
        )
        return float(frame.difference())
    binary = config.target.kind == "binary"
    predicted = (prediction >= rule.threshold).astype(int) if binary else prediction.argmax(axis=1)
    if rule.metric == "accuracy_difference":
        frame = metrics.MetricFrame(metrics=accuracy_score, y_true=outcome, y_pred=predicted, sensitive_features=groups)
        return float(frame.difference())
    return float(getattr(metrics, rule.metric)(outcome, predicted, sensitive_features=groups))
