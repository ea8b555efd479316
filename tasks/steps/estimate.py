"""Estimate the champion's performance on a partition before its labels are available.

classifiers  CBPE, confidence-based performance estimation (NannyML; Bialek et al. 2024, arXiv 2401.08348). The model's
             probabilities, calibrated on the holdout where that helps, give the expected loss and the expected ROC AUC.
regression   DLE, direct loss estimation (NannyML). A second model predicts the loss from features and prediction. It is fitted
             on the holdout.

Both assume that the outcome depends on the features as it did on the holdout. If the champion is a refit, they also assume that its
errors are like those of the version judged there. So they detect a covariate shift to rows that are harder to predict. They do not
detect a change of the relation between features and outcome (concept drift): then the realised performance is worse than the
estimate. An estimate never promotes and never rolls back.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig
from configs.target import Target
from tasks.contracts import PartitionRef, Stage
from tasks.errors import UnknownVersion
from tasks.models.metrics import finite, row_loss
from tasks.models.targets import outcomes, prediction_array
from tasks.resources import Resources
from tasks.steps.decay import losses_by_block
from tasks.steps.holdout import labelled_holdout
from tasks.steps.score import champion_of, model_input
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.storage.blocks import labelled_blocks
from tasks.storage.files import digest_json

if TYPE_CHECKING:
    import pandas as pd

VERSION = 3
MIN_ROWS = 100
"""Minimum number of labelled rows in the holdout."""


def estimate(ref: PartitionRef, res: Resources) -> StepOutput:
    """Estimate the metrics of a scored partition. The record's `note` gives the reason if that is not possible."""
    config, champion = res.config, champion_of(ref, res)
    rows = res.lake.read(Stage.VALID, ref.key)
    predictions = res.lake.read(Stage.PREDICTIONS, ref.key).drop(columns=[config.time])
    rows = rows.merge(predictions, on=config.key, how="inner", validate="one_to_one")
    try:
        labelled = labelled_holdout(champion, res)
        note = (
            "" if len(labelled) >= MIN_ROWS else f"{len(labelled)} labelled rows in the holdout, {MIN_ROWS} are needed"
        )
    except UnknownVersion as error:
        labelled, note = rows.iloc[:0], str(error)
    if rows.empty:
        note = note or "the partition has no rows"
    data = {"version": champion.version, "note": note, "metrics": {}, "blocks": []}
    if not note:
        data |= _estimate_metrics(rows, labelled, config)
    return StepOutput(rows=len(rows), data=data)


def _estimate_metrics(rows: "pd.DataFrame", labelled: "pd.DataFrame", config: ModelConfig) -> dict[str, Any]:
    """Metrics, and the loss by block of time. The interval depends on past errors, see `tasks/lifecycle/estimates.py`."""
    target = config.target
    if target.kind == "regression":
        losses = predict_loss(rows, labelled, config)
        metrics: dict[str, float] = {target.eval_loss: float(losses.mean())}
        if target.eval_loss == "squared_error":
            metrics["rmse"] = float(losses.mean()) ** 0.5
    else:
        predicted, probability = _calibrated(rows, labelled, target)
        losses = expected_loss(predicted, probability, target)
        metrics = {"log_loss": float(losses.mean())} | _expected_scores(predicted, probability, target)
    return {"metrics": finite(metrics), "blocks": losses_by_block(losses, labelled_blocks(rows, config))}


def estimated_losses(rows: "pd.DataFrame", labelled: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """Estimate the loss of each predicted row from labelled rows with predictions of the same version, float64 `(rows,)`."""
    if config.target.kind == "regression":
        return predict_loss(rows, labelled, config)
    return expected_loss(*_calibrated(rows, labelled, config.target), config.target)


def _calibrated(rows: "pd.DataFrame", labelled: "pd.DataFrame", target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions of rows, and the same as calibrated on labelled rows."""
    predicted = prediction_array(rows, target)
    return predicted, calibrate(predicted, prediction_array(labelled, target), outcomes(labelled, target), target)


def calibrate(predicted: np.ndarray, labelled: np.ndarray, outcome: np.ndarray, target: Target) -> np.ndarray:
    """Calibrate probabilities by isotonic regression on labelled rows, one class against the rest.

    This is done only if a calibration fitted on the older half of the labelled rows lowers the loss of the newer half.

    Args:
        predicted: Probabilities to calibrate, of shape (rows,) or (rows, classes).
        labelled: Probabilities of the labelled rows, oldest first.
        outcome: Outcomes of the labelled rows.
        target: The model's target.

    Returns:
        Calibrated probabilities in the shape of `predicted`, or `predicted` itself.
    """
    half = len(labelled) // 2
    older, newer = slice(None, half), slice(half, None)
    before = row_loss(outcome[newer], labelled[newer], target).mean()
    after = row_loss(outcome[newer], _isotonic(labelled[newer], labelled[older], outcome[older]), target).mean()
    return _isotonic(predicted, labelled, outcome) if after < before else predicted


def _isotonic(predicted: np.ndarray, labelled: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression

    def fit_predict(x: np.ndarray, x_fit: np.ndarray, y_fit: np.ndarray) -> np.ndarray:
        return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x_fit, y_fit).predict(x)

    if predicted.ndim == 1:
        return fit_predict(predicted, labelled, outcome)
    columns = [fit_predict(predicted[:, k], labelled[:, k], outcome == k) for k in range(predicted.shape[1])]
    calibrated = np.stack(columns, axis=1)
    total = calibrated.sum(axis=1, keepdims=True)
    return np.where(total > 0, calibrated / np.where(total > 0, total, 1), predicted)


def expected_loss(predicted: np.ndarray, probability: np.ndarray, target: Target) -> np.ndarray:
    """The expected log loss of each row, of shape (rows,), if outcomes have the given `probability`."""
    if target.kind == "binary":
        positive, negative = (row_loss(np.full(len(predicted), y), predicted, target) for y in (1, 0))
        return probability * positive + (1 - probability) * negative
    losses = [row_loss(np.full(len(predicted), k), predicted, target) for k in range(predicted.shape[1])]
    return (np.stack(losses, axis=1) * probability).sum(axis=1)


def _expected_scores(predicted: np.ndarray, probability: np.ndarray, target: Target) -> dict[str, float]:
    if target.kind == "binary":
        return {"roc_auc": expected_auc(predicted, probability)}
    return {"accuracy": float(probability[np.arange(len(predicted)), predicted.argmax(axis=1)].mean())}


def expected_auc(predicted: np.ndarray, probability: np.ndarray) -> float:
    """The expected ROC AUC if each row is positive with the given `probability`.

    Every row counts as positive and as negative, by weight. Ties count half. A row is not compared with itself.

    Returns:
        The AUC; NaN if all rows are certain to be of one class.
    """
    order = np.argsort(predicted, kind="stable")
    tie_starts = np.flatnonzero(np.r_[True, np.diff(predicted[order]) > 0])
    positive, negative = (np.add.reduceat(w[order], tie_starts) for w in (probability, 1 - probability))
    same_row = float((probability * (1 - probability)).sum())
    pairs = float(positive.sum() * negative.sum()) - same_row
    concordant = float((positive * (np.cumsum(negative) - negative / 2)).sum()) - same_row / 2
    return concordant / pairs if pairs > 0 else float("nan")


def predict_loss(rows: "pd.DataFrame", labelled: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """Predict the loss of each row by a model fitted on the losses of `labelled` rows; at least 0, of shape (rows,)."""
    from xgboost import XGBRegressor

    target = config.target
    losses = row_loss(outcomes(labelled, target), prediction_array(labelled, target), target)
    model = XGBRegressor(n_estimators=100, max_depth=4, learning_rate=0.1, n_jobs=1, random_state=config.training.seed)
    model.fit(_encode(labelled, labelled, config), losses)
    return np.maximum(model.predict(_encode(rows, labelled, config)).astype("float64"), 0)


def _encode(rows: "pd.DataFrame", labelled: "pd.DataFrame", config: ModelConfig) -> np.ndarray:
    """Features and prediction as numbers. A category that the `labelled` rows do not have is missing (NaN)."""
    import pandas as pd

    both = {name for name in config.features.all if name in rows and name in labelled}  # a feature may be new
    names = [name for name in config.features.numeric if name in both]
    numeric = rows[[*names, "prediction"]].to_numpy(dtype="float64")
    codes = []
    for name in (name for name in config.features.categorical if name in both):
        column = pd.Categorical(rows[name], categories=sorted(labelled[name].dropna().unique())).codes
        codes.append(np.where(column < 0, np.nan, column))
    return np.column_stack([numeric, *codes])


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the digests of predictions, champion, and of target, columns and rule of the gain in the config."""
    config = res.config
    rules = [config.target.model_dump(), config.features.columns, config.gate.gain.model_dump(), config.training.seed]
    return {
        "predictions": upstream_record(ref, res, Stage.PREDICTIONS).digest,
        "model": model_input(champion_of(ref, res)),
        "config": digest_json(rules),
    }


ESTIMATE = Step("estimate", Stage.ESTIMATES, VERSION, inputs, estimate)
