"""What a model makes of each feature."""

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig
from tasks.models.features import inputs_wanted, predict
from tasks.models.metrics import row_loss
from tasks.models.targets import outcomes

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 2000
"""Rows on which importances are measured."""


def importances(model: Any, rows: "pd.DataFrame", config: ModelConfig) -> dict[str, float]:
    """By feature, the rise in loss when its values are shuffled among the rows (permutation importance, Breiman 2001), once."""
    sample = rows.iloc[:: max(1, len(rows) // SAMPLE)].reset_index(drop=True)
    outcome, rng = outcomes(sample, config.target), np.random.default_rng(config.training.seed)

    def loss(frame: "pd.DataFrame") -> float:
        return float(row_loss(outcome, predict(model, frame, config), config.target).mean())

    whole = loss(sample)
    found = {}
    for name in inputs_wanted(model, config).all:
        shuffled = sample.assign(**{name: sample[name].to_numpy()[rng.permutation(len(sample))]})
        found[name] = loss(shuffled) - whole
    return found
