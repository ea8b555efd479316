"""How well a partition was predicted, once its labels are known."""

from typing import TYPE_CHECKING, Any

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Record, Stage
from tasks.drift.report import show_performance
from tasks.models.features import predict
from tasks.models.metrics import finite, intervals, measure, row_loss
from tasks.models.targets import outcomes, prediction_array, prediction_columns
from tasks.resources import Resources
from tasks.steps.collect import join_outcomes, newest_of
from tasks.steps.decay import by_block
from tasks.steps.score import scored_by
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.steps.target_drift import target_drift
from tasks.storage.blocks import labelled_blocks
from tasks.storage.files import digest_json

if TYPE_CHECKING:
    import pandas as pd

VERSION = 5


def assess(ref: PartitionRef, res: Resources) -> StepOutput:
    """Measure a partition's predictions against its mature labels; says how many rows that leaves out and why.

    Beside the metrics with their intervals: the loss by block of time, what had been estimated before the labels came, and
    whether the outcomes themselves drifted.
    """
    config, target = res.config, res.config.target
    predictions = res.lake.read(Stage.PREDICTIONS, ref.key)
    labels = newest_of(res.lake.read(Stage.LABELS, ref.key), config)
    joined = join_outcomes(predictions, labels, config)
    outcome, said = outcomes(joined, target), prediction_array(joined, target)
    metrics = measure(outcome, said, target)
    blocks = labelled_blocks(joined, config)
    bounds = intervals(outcome, said, blocks, target, config.gate.gain.resamples, config.training.seed)
    data = {
        **res.lake.done(Stage.PREDICTIONS, ref.key).data,
        **_counts(predictions, labels, joined, config),
        "metrics": finite(metrics),
        "intervals": {name: [*finite({"l": i.lower, "u": i.upper}).values()] for name, i in bounds.items()},
        "blocks": by_block(row_loss(outcome, said, target), blocks),
        "estimate": reconcile(res.lake.record(Stage.ESTIMATES, ref.key), metrics, config),
        "target": target_drift(joined, scored_by(ref, res), res),
    }
    if res.pages:
        data = show_performance(ref, data, res)
    collected = res.lake.done(Stage.LABELS, ref.key).as_of
    return StepOutput(rows=len(joined), data=data, as_of=max(collected, ref.as_of))


def _counts(
    predictions: "pd.DataFrame", labels: "pd.DataFrame", joined: "pd.DataFrame", config: ModelConfig
) -> dict[str, int]:
    """How many rows were scored, have their outcome, will never have one, and wait for it."""
    never = labels.loc[labels[config.target.column].isna(), config.key]
    counts = {
        "scored": len(predictions),
        "mature": len(joined),
        "never": int(predictions[config.key].isin(never).sum()),
    }
    return counts | {"pending": counts["scored"] - counts["mature"] - counts["never"]}


def reconcile(estimated: Record | None, metrics: dict[str, float], config: ModelConfig) -> dict[str, Any]:
    """What had been estimated, and by how much that was wrong: realised minus estimated, by metric."""
    found = estimated.data["metrics"] if estimated and estimated.status == "done" else {}
    told = {name: value for name, value in found.items() if value is not None}
    errors = {name: metrics[name] - value for name, value in told.items() if name in metrics}
    return {"metrics": told, "errors": finite(errors), "error": finite(errors).get(config.target.judged_by)}


def measure_version(number: str, ref: PartitionRef, res: Resources) -> dict[str, float]:
    """The metrics that a version would have had on a partition, whichever version scored it."""
    config = res.config
    rows = res.lake.read(Stage.VALID, ref.key)
    prediction = predict(res.load(number), rows, config)
    scored = rows[[config.key]].assign(**prediction_columns(prediction, config.target))
    joined = join_outcomes(scored, newest_of(res.lake.read(Stage.LABELS, ref.key), config), config)
    return measure(outcomes(joined, config.target), prediction_array(joined, config.target), config.target)


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    made = {str(stage): upstream_record(ref, res, stage).digest for stage in (Stage.PREDICTIONS, Stage.LABELS)}
    estimated, config = res.lake.record(Stage.ESTIMATES, ref.key), res.config
    watch = config.monitoring.model_dump(include={"block", "alpha", "resamples", "numeric", "categorical"})
    rules = [watch, config.gate.gain.model_dump(), config.training.seed]
    return {**made, "estimates": estimated.digest if estimated else "", "config": digest_json(rules)}


ASSESS = Step("assess", Stage.PERFORMANCE, VERSION, inputs, assess)
