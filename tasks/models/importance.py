"""Permutation importance of a model's features."""

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig
from tasks.models.features import input_features, predict
from tasks.models.metrics import row_loss
from tasks.models.targets import outcomes

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 2000
"""Largest number of rows on which importances are measured, about."""


def importances(model: Any, rows: "pd.DataFrame", config: ModelConfig) -> dict[str, float]:
    """Compute permutation importances (Breiman 2001), with one permutation a feature.

    Returns:
        By feature, the increase of the mean loss when its values are permuted among the rows.
    """
    sample = rows.iloc[:: max(1, len(rows) // SAMPLE)].reset_index(drop=True)
    outcome, rng = outcomes(sample, config.target), np.random.default_rng(config.training.seed)

    def loss(frame: "pd.DataFrame") -> float:
        return float(row_loss(outcome, predict(model, frame, config), config.target).mean())

    baseline = loss(sample)
    increases = {}
    for name in input_features(model, config).all:
        shuffled = sample.assign(**{name: sample[name].to_numpy()[rng.permutation(len(sample))]})
        increases[name] = loss(shuffled) - baseline
    return increases
