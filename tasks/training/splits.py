"""Time-ordered validation splits before the holdout, and what a recipe says of rows that it has not seen.

    |------------------ fitted on ------------------| gap |- validation 1 -|
    |-------------------------- fitted on --------------------------| gap |- validation 2 -|   ... | gap | holdout

Each validation part is as long as the holdout and predicted by a fit on what lies before it, less a gap
of the label delay: a choice by it is made as it would have been made then. The holdout is never looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from configs.schema import ModelConfig
from tasks.contracts import Recipe
from tasks.errors import NotEnoughData
from tasks.models.calibration import response
from tasks.models.estimators import build_pipeline
from tasks.models.fast_fit import fit_pipeline
from tasks.models.features import inputs_of, predict
from tasks.models.metrics import row_loss
from tasks.models.targets import outcomes
from tasks.resources import Resources
from tasks.training.window import require_enough_rows

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class Split:
    """Rows to fit on, and later rows to predict."""

    before: "pd.DataFrame"
    after: "pd.DataFrame"


@dataclass(frozen=True)
class Unseen:
    """What a recipe said of the validation rows, each predicted before it could have been learned, oldest first."""

    rows: "pd.DataFrame"
    prediction: np.ndarray
    responses: np.ndarray
    losses: tuple[float, ...]
    """The mean loss of each split."""
    loss: float
    """The mean loss of all rows."""


def time_splits(rows: "pd.DataFrame", end: datetime, config: ModelConfig) -> list[Split]:
    """Up to `training.splits` splits of the rows before `end`, oldest first.

    Fewer where the oldest would be fitted on fewer rows than `min_rows`, or on rows without every class.

    Raises:
        NotEnoughData: there is not even one.
    """
    rules = config.training
    found: list[Split] = []
    length = rules.window.holdout
    for number in range(1, rules.splits + 1):
        border = end - number * length
        before = rows[rows[config.time] < border - config.target.delay]
        after = rows[(rows[config.time] >= border) & (rows[config.time] < border + length)]
        try:
            require_enough_rows(config, before, f"before {border.isoformat()}")
        except NotEnoughData as why:
            if not found:
                raise NotEnoughData(
                    f"{config.name}: the window is too short to choose a candidate on the {length.days} days before its holdout: {why}"
                ) from None
            break
        if len(after):
            found.append(Split(before, after))
    if not found:
        raise NotEnoughData(
            f"{config.name}: no labelled rows in the {rules.splits} validation splits before {end.isoformat()}"
        )
    return found[::-1]


def fit(recipe: Recipe, rows: "pd.DataFrame", res: Resources) -> "Pipeline":
    """Fit a recipe, without its calibration. The same rows, config and thread count give the same model."""
    pipeline = build_pipeline(recipe, res.config, res.settings.threads)
    return fit_pipeline(pipeline, rows, outcomes(rows, res.config.target), res.config.features.learned)


def predict_out_of_fold(recipe: Recipe, splits: Sequence[Split], res: Resources) -> Unseen:
    """Predict every validation part from what lies before it."""
    import pandas as pd

    config = res.config
    said, answered, losses = [], [], []
    for split in splits:
        pipeline = fit(recipe, split.before, res)
        prediction = predict(pipeline, split.after, config)
        losses.append(row_loss(outcomes(split.after, config.target), prediction, config.target))
        said.append(prediction)
        if config.target.kind != "regression":
            answered.append(response(pipeline, inputs_of(split.after, config.features.learned)))
    rows = pd.concat([split.after for split in splits], ignore_index=True)
    responses = np.concatenate(answered) if answered else np.empty((0, 1))
    means = tuple(float(part.mean()) for part in losses)
    return Unseen(rows, np.concatenate(said), responses, means, float(np.concatenate(losses).mean()))
