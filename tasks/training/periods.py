"""What later losses of a version are compared with: its losses and its estimation errors on the validation splits and the holdout."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from configs.schema import ModelConfig
from tasks.contracts import Period, Version, Window
from tasks.models.features import predict
from tasks.models.metrics import row_loss
from tasks.models.skill import summarise_outcomes
from tasks.models.targets import outcomes, prediction_array, prediction_columns
from tasks.resources import Resources
from tasks.steps.decay import losses_by_block
from tasks.steps.estimate import estimated_losses
from tasks.storage.blocks import labelled_blocks
from tasks.training.selection import calibrated, selection_rows
from tasks.training.splits import predict_out_of_fold, time_splits
from tasks.training.window import read_rows, training_inputs

if TYPE_CHECKING:
    import pandas as pd


def reference_periods(judged: Version, window: Window, res: Resources) -> list[Period]:
    """Measure a version that the gate has judged on the validation splits and on the holdout, oldest first.

    The recipe is fitted again for each validation split. Every loss is also estimated as that of a partition without labels is. The
    period before stands for the holdout then, so the first one has no estimate.
    """

    def inputs() -> list[Any]:
        return ["periods", judged.version, judged.digest, *training_inputs(window, res)]

    periods: list[Period] = res.cache.result(
        list[Period], inputs, lambda: list(_with_estimates(_predicted_periods(judged, window, res), res.config))
    )
    return periods


def _predicted_periods(judged: Version, window: Window, res: Resources) -> "Iterator[pd.DataFrame]":
    """Yield the labelled rows of each validation split and of the holdout with their predictions."""
    config, target = res.config, res.config.target
    splits = time_splits(*selection_rows(window, res), config)
    validation = predict_out_of_fold(judged.recipe, splits, res)
    prediction, method = validation.prediction, judged.recipe.calibration
    if method != "none":
        outcome = outcomes(validation.rows, target)
        prediction = calibrated(validation.responses, validation.responses, outcome, method)
    rows = validation.rows.assign(**prediction_columns(prediction, target))
    at = 0
    for split in splits:
        yield rows.iloc[at : at + len(split.validation)].reset_index(drop=True)
        at += len(split.validation)
    holdout = read_rows(res, window, window.holdout_start, window.end)
    if len(holdout):
        predicted = predict(res.load(judged.version), holdout, config)
        yield holdout.assign(**prediction_columns(predicted, target)).reset_index(drop=True)


def _with_estimates(parts: "Iterator[pd.DataFrame]", config: ModelConfig) -> Iterator[Period]:
    """Yield the period of each part. All but the first are estimated with the labelled rows of the part before."""
    labelled = None
    for rows in parts:
        estimated = None if labelled is None else estimated_losses(rows, labelled, config)
        labelled = rows
        outcome, numbers = outcomes(rows, config.target), labelled_blocks(rows, config)
        losses = row_loss(outcome, prediction_array(rows, config.target), config.target)
        blocks = losses_by_block(losses, numbers)
        if not blocks:  # a loss is not finite
            continue
        yield Period(
            blocks=tuple((int(b), int(n), s) for b, n, s in blocks),
            outcomes=tuple(map(tuple, summarise_outcomes(outcome, numbers, config.target))),
            estimated=() if estimated is None else tuple(s for _, _, s in losses_by_block(estimated, numbers)),
        )
