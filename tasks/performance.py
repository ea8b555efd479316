"""How well a partition was predicted, once its labels are known."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Stage
from tasks.features import predict
from tasks.resources import Resources
from tasks.stages import Made, Step, made_from

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1


def measure(outcome: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """ROC AUC, log loss (natural logarithm), Brier score, base rate and mean prediction of binary outcomes.

    AUC is not a number where only one class occurs; all are where there is no row.
    """
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    if not len(outcome):
        return dict.fromkeys(("roc_auc", "log_loss", "brier", "base_rate", "mean_prediction"), float("nan"))
    both = 0 < outcome.sum() < len(outcome)
    return {
        "roc_auc": float(roc_auc_score(outcome, prediction)) if both else float("nan"),
        "log_loss": float(log_loss(outcome, prediction, labels=[0, 1])),
        "brier": float(brier_score_loss(outcome, prediction)),
        "base_rate": float(outcome.mean()),
        "mean_prediction": float(prediction.mean()),
    }


def join_outcomes(predictions: "pd.DataFrame", labels: "pd.DataFrame", config: ModelConfig) -> "pd.DataFrame":
    """Predictions of rows whose outcome is known and exists."""
    known = labels.loc[labels[config.target.column].notna(), [config.key, config.target.column]]
    return predictions.merge(known, on=config.key, how="inner", validate="one_to_one")


def assess(ref: PartitionRef, res: Resources) -> Made:
    """Measure a partition's predictions against its mature labels; says how many rows that leaves out and why."""
    config = res.config
    predictions, labels = res.lake.read(Stage.PREDICTIONS, ref.key), res.lake.read(Stage.LABELS, ref.key)
    joined = join_outcomes(predictions, labels, config)
    metrics = measure(joined[config.target.column].to_numpy(), joined["prediction"].to_numpy())
    never = labels.loc[labels[config.target.column].isna(), config.key]
    counts = {
        "scored": len(predictions),
        "mature": len(joined),
        "never": int(predictions[config.key].isin(never).sum()),
    }
    counts["pending"] = counts["scored"] - counts["mature"] - counts["never"]
    made = res.lake.done(Stage.PREDICTIONS, ref.key)
    return Made(rows=len(joined), data={**made.data, **counts, "metrics": finite(metrics)})


def measure_version(number: str, ref: PartitionRef, res: Resources) -> dict[str, float]:
    """The metrics that a version would have had on a partition, whichever version scored it."""
    config = res.config
    rows = res.lake.read(Stage.VALID, ref.key)
    scored = rows[[config.key]].assign(prediction=predict(res.registry.load(number), rows, config.features))
    joined = join_outcomes(scored, res.lake.read(Stage.LABELS, ref.key), config)
    return measure(joined[config.target.column].to_numpy(), joined["prediction"].to_numpy())


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics for JSON, which has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    return {stage: made_from(ref, res, stage).digest for stage in (Stage.PREDICTIONS, Stage.LABELS)}


ASSESS = Step("assess", Stage.PERFORMANCE, VERSION, inputs, assess)
