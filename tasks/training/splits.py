"""Time-ordered validation splits before the holdout, and out-of-fold predictions on them.

    |------------------ fitted on ------------------| gap |- validation 1 -|
    |-------------------------- fitted on --------------------------| gap |- validation 2 -|   ... | gap | holdout

Each validation part is as long as the holdout. It is predicted by a model that was fitted on the rows before it. A gap of the label
delay lies between them, since later outcomes were not known at that time. The holdout is not used.
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
from tasks.training.shortage import no_split, shortage

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class Split:
    """Rows to fit on, and later rows to predict."""

    train: "pd.DataFrame"
    validation: "pd.DataFrame"


@dataclass(frozen=True)
class OutOfFold:
    """A recipe's out-of-fold predictions of the validation rows, oldest first."""

    rows: "pd.DataFrame"
    prediction: np.ndarray
    responses: np.ndarray
    """As returned by `calibration.response`; empty for regression."""
    losses: tuple[float, ...]
    """Mean loss of each split."""
    loss: float
    """Mean loss of all rows."""


def time_splits(rows: "pd.DataFrame", end: datetime, config: ModelConfig) -> list[Split]:
    """Return up to `training.splits` splits of the rows before `end` (exclusive), oldest first.

    There are fewer if the oldest would be fitted on fewer rows than `min_rows` or on rows without every class.

    Raises:
        NotEnoughData: There is no split.
    """
    rules = config.training
    splits: list[Split] = []
    length = rules.window.holdout
    for number in range(1, rules.splits + 1):
        start = end - number * length
        train = rows[rows[config.time] < start - config.target.delay]
        validation = rows[(rows[config.time] >= start) & (rows[config.time] < start + length)]
        if problem := shortage(config, train, f"before {start:%Y-%m-%dT%H:%M%z}"):
            if not splits:
                raise NotEnoughData(no_split(config, problem))
            break
        if len(validation):
            splits.append(Split(train, validation))
    if not splits:
        raise NotEnoughData(
            f"{config.name}: no labelled row in the {rules.splits} validation splits before {end.isoformat()}; raise training.splits, or "
            f"lengthen training.window.holdout, which is the length of a split"
        )
    return splits[::-1]


def fit(recipe: Recipe, rows: "pd.DataFrame", res: Resources) -> "Pipeline":
    """Fit a recipe without its calibration. Deterministic for the same rows, config and number of threads."""
    pipeline = build_pipeline(recipe, res.config, res.settings.threads)
    return fit_pipeline(pipeline, rows, outcomes(rows, res.config.target), res.config.features.active)


def predict_out_of_fold(recipe: Recipe, splits: Sequence[Split], res: Resources) -> OutOfFold:
    """Predict each validation part with a model that is fitted on its training part."""
    import pandas as pd

    config = res.config
    predictions, responses, losses = [], [], []
    for split in splits:
        pipeline = fit(recipe, split.train, res)
        prediction = predict(pipeline, split.validation, config)
        losses.append(row_loss(outcomes(split.validation, config.target), prediction, config.target))
        predictions.append(prediction)
        if config.target.kind != "regression":
            responses.append(response(pipeline, inputs_of(split.validation, config.features.active)))
    return OutOfFold(
        rows=pd.concat([split.validation for split in splits], ignore_index=True),
        prediction=np.concatenate(predictions),
        responses=np.concatenate(responses) if responses else np.empty((0, 1)),
        losses=tuple(float(part.mean()) for part in losses),
        loss=float(np.concatenate(losses).mean()),
    )
