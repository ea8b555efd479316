"""How well a partition was predicted, once its labels are known."""

from typing import TYPE_CHECKING

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Stage
from tasks.features import predict
from tasks.metrics import finite, measure
from tasks.resources import Resources
from tasks.stages import Made, Step, made_from
from tasks.targets import outcomes, prediction_array, prediction_columns

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2


def join_outcomes(predictions: "pd.DataFrame", labels: "pd.DataFrame", config: ModelConfig) -> "pd.DataFrame":
    """Predictions of rows whose outcome is known and exists."""
    known = labels.loc[labels[config.target.column].notna(), [config.key, config.target.column]]
    return predictions.merge(known, on=config.key, how="inner", validate="one_to_one")


def assess(ref: PartitionRef, res: Resources) -> Made:
    """Measure a partition's predictions against its mature labels; says how many rows that leaves out and why."""
    config = res.config
    predictions, labels = res.lake.read(Stage.PREDICTIONS, ref.key), res.lake.read(Stage.LABELS, ref.key)
    joined = join_outcomes(predictions, labels, config)
    metrics = measure(outcomes(joined, config.target), prediction_array(joined, config.target), config.target)
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
    prediction = predict(res.load(number), rows, config)
    scored = rows[[config.key]].assign(**prediction_columns(prediction, config.target))
    joined = join_outcomes(scored, res.lake.read(Stage.LABELS, ref.key), config)
    return measure(outcomes(joined, config.target), prediction_array(joined, config.target), config.target)


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    return {stage: made_from(ref, res, stage).digest for stage in (Stage.PREDICTIONS, Stage.LABELS)}


ASSESS = Step("assess", Stage.PERFORMANCE, VERSION, inputs, assess)
