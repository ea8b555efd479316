"""Performance by group of rows, and calibration in bins: small tables of a partition that can be added over partitions."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig
from configs.target import Target
from tasks.models.fairness import measure_gap
from tasks.models.metrics import BINS, finite
from tasks.storage.personal import hide_categories

if TYPE_CHECKING:
    import pandas as pd

MOST = 20
"""Values of a column that are recorded, those with most rows."""


def group_columns(config: ModelConfig) -> tuple[str, ...]:
    """Return the columns whose values model.yaml declares as segments or as groups of a fairness rule, each once."""
    segments = config.gate.segments.columns if config.gate.segments else ()
    return tuple(dict.fromkeys((*segments, *(rule.column for rule in config.gate.fairness))))


def measure_groups(rows: "pd.DataFrame", losses: np.ndarray, config: ModelConfig) -> dict[str, list[list[Any]]]:
    """Return value, number of rows and mean loss of each group, by column. Null counts as a value, the largest group is first.

    Args:
        rows: Has the columns of `group_columns`.
        losses: The loss of each row.
        config: The model's config.
    """
    groups, rows = {}, hide_categories(config, rows)
    for column in group_columns(config):
        values = rows[column].astype(object).where(rows[column].notna(), "(null)").astype(str).to_numpy()
        names, index = np.unique(values, return_inverse=True)
        counts = np.bincount(index)
        means = np.bincount(index, weights=losses) / counts
        largest = np.argsort(-counts, kind="stable")[:MOST]
        groups[column] = [[str(names[i]), int(counts[i]), float(means[i])] for i in largest]
    return groups


def fairness_gaps(
    rows: "pd.DataFrame", outcome: np.ndarray, prediction: np.ndarray, config: ModelConfig
) -> Iterator[dict[str, Any]]:
    """Yield column, metric and gap for each fairness rule of the gate. The gap is None if a group has too few rows."""
    for rule in config.gate.fairness:
        gap = measure_gap(rule, rows, outcome, prediction, config).gap
        yield {"column": rule.column, "metric": rule.metric, **finite({"gap": gap})}


def calibration_bins(outcome: np.ndarray, prediction: np.ndarray, target: Target) -> list[list[float]]:
    """Return rows, sum of predictions and sum of outcomes in ten bins of equal width from 0 to 1; empty for regression.

    For several classes it is the probability of the most probable class, and whether that class came true.
    """
    if target.kind == "regression" or not np.isfinite(prediction).all():
        return []
    predicted, observed = prediction, outcome
    if target.kind == "multiclass":
        predicted, observed = prediction.max(axis=1), prediction.argmax(axis=1) == outcome
    at = np.minimum((predicted * BINS).astype("int64"), BINS - 1)
    columns = [np.bincount(at, weights=w, minlength=BINS) for w in (np.ones(len(at)), predicted, observed)]
    return [[float(x) for x in row] for row in np.stack(columns, axis=1)]
