"""Measure the predictions of a partition, once its labels are known."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig, Target
from tasks.contracts import PartitionRef, Record, Stage
from tasks.drift.performance_report import write_performance_report
from tasks.models.bootstrap import block_sums
from tasks.models.features import predict
from tasks.models.metrics import finite, intervals, measure, row_loss
from tasks.models.skill import prior_losses, summarise_outcomes
from tasks.models.targets import outcomes, prediction_array, prediction_columns
from tasks.resources import Resources
from tasks.steps.collect import join_outcomes, newest_labels
from tasks.steps.decay import losses_by_block
from tasks.steps.score import scored_by
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.steps.target_drift import target_drift
from tasks.storage.blocks import labelled_blocks
from tasks.storage.files import digest_json

if TYPE_CHECKING:
    import pandas as pd

VERSION = 7


def assess(ref: PartitionRef, res: Resources) -> StepOutput:
    """Compare a partition's predictions with its mature labels.

    The record has the metrics with their intervals, the number of rows without a label, losses and outcomes by block of time, the
    skill, the errors of the earlier estimate, and the drift of the outcomes.
    """
    config, target = res.config, res.config.target
    predictions = res.lake.read(Stage.PREDICTIONS, ref.key)
    moment = cutoff(ref, res)
    labels = newest_labels(res.lake.read(Stage.LABELS, ref.key), config, moment)
    joined = join_outcomes(predictions, labels, config)
    outcome, predicted = outcomes(joined, target), prediction_array(joined, target)
    metrics = measure(outcome, predicted, target)
    blocks = labelled_blocks(joined, config)
    bounds = intervals(outcome, predicted, blocks, target, config.gate.gain.resamples, config.training.seed)
    losses, summaries = row_loss(outcome, predicted, target), summarise_outcomes(outcome, blocks, target)
    data = {
        **res.lake.done(Stage.PREDICTIONS, ref.key).data,
        **_counts(predictions, labels, joined, config),
        "metrics": finite(metrics),
        "intervals": {name: [*finite({"l": i.lower, "u": i.upper}).values()] for name, i in bounds.items()},
        "blocks": losses_by_block(losses, blocks),
        "outcomes": summaries,
        **_skill(losses, summaries, blocks, target),
        "estimate": reconcile(res.lake.record(Stage.ESTIMATES, ref.key), metrics, config),
        "target": target_drift(joined, scored_by(ref, res), res),
    }
    if res.pages:
        data = write_performance_report(ref, data, res)
    collected = res.lake.done(Stage.LABELS, ref.key).as_of
    return StepOutput(rows=len(joined), data=data, as_of=moment or max(collected, ref.as_of))


def _skill(
    losses: np.ndarray, summaries: list[list[float]], blocks: np.ndarray, target: Target
) -> dict[str, float | None]:
    """The loss of the partition's own prior, and the skill: 1 minus the loss as a share of it."""
    if not len(losses):
        return {"prior_loss": None, "skill": None}
    prior = float(prior_losses(block_sums(losses, blocks)[1], summaries, target).sum() / len(losses))
    return finite({"prior_loss": prior, "skill": 1 - float(losses.mean()) / prior if prior > 0 else float("nan")})


def cutoff(ref: PartitionRef, res: Resources) -> datetime | None:
    """The moment of an assessment if the lake has labels of the partition that became known later, else None.

    The moment is the ref's. It does not move back to before an earlier assessment, as that of the labels does not.
    """
    earlier = res.lake.record(Stage.PERFORMANCE, ref.key)
    moment = max(ref.as_of, earlier.as_of) if earlier else ref.as_of
    if upstream_record(ref, res, Stage.LABELS).as_of <= moment:
        return None
    later = res.lake.read(Stage.LABELS, ref.key, ["known_at"])["known_at"] > moment
    return moment if later.any() else None


def _counts(
    predictions: "pd.DataFrame", labels: "pd.DataFrame", joined: "pd.DataFrame", config: ModelConfig
) -> dict[str, int]:
    """Count the rows that were scored, have an outcome, will never have one, and wait for one."""
    never = labels.loc[labels[config.target.column].isna(), config.key]
    counts = {
        "scored": len(predictions),
        "mature": len(joined),
        "never": int(predictions[config.key].isin(never).sum()),
    }
    return counts | {"pending": counts["scored"] - counts["mature"] - counts["never"]}


def reconcile(estimated: Record | None, metrics: dict[str, float], config: ModelConfig) -> dict[str, Any]:
    """The estimated metrics and their errors: realised minus estimated. `error` is that of the loss."""
    recorded = estimated.data["metrics"] if estimated and estimated.status == "done" else {}
    estimates = {name: value for name, value in recorded.items() if value is not None}
    errors = {name: metrics[name] - value for name, value in estimates.items() if name in metrics}
    return {"metrics": estimates, "errors": finite(errors), "error": finite(errors).get(config.target.eval_loss)}


def measure_version(number: str, ref: PartitionRef, res: Resources) -> dict[str, float]:
    """The metrics of a version on a partition, even if another version scored it. Labels are those of its assessment."""
    config = res.config
    rows = res.lake.read(Stage.VALID, ref.key)
    prediction = predict(res.load(number), rows, config)
    scored = rows[[config.key]].assign(**prediction_columns(prediction, config.target))
    labels = newest_labels(res.lake.read(Stage.LABELS, ref.key), config, cutoff(ref, res))
    joined = join_outcomes(scored, labels, config)
    return measure(outcomes(joined, config.target), prediction_array(joined, config.target), config.target)


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Return the digests of predictions, labels, estimates and of the rules for drift and gain, and the `cutoff` if there is one."""
    upstream = {str(stage): upstream_record(ref, res, stage).digest for stage in (Stage.PREDICTIONS, Stage.LABELS)}
    estimated, config = res.lake.record(Stage.ESTIMATES, ref.key), res.config
    drift_rules = config.monitoring.model_dump(include={"block", "alpha", "resamples", "numeric", "categorical"})
    rules = [drift_rules, config.gate.gain.model_dump(), config.training.seed]
    moment = cutoff(ref, res)
    digests = {**upstream, "estimates": estimated.digest if estimated else "", "config": digest_json(rules)}
    return digests | ({"as_of": moment.isoformat()} if moment else {})


ASSESS = Step("assess", Stage.PERFORMANCE, VERSION, inputs, assess, moment="matured")
