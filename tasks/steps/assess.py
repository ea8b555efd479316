"""Measure the predictions of a partition, once its labels are known."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Record, Stage
from tasks.drift.performance_report import write_performance_report
from tasks.models.bootstrap import block_sums, mean_bounds
from tasks.models.features import predict
from tasks.models.groups import calibration_bins, fairness_gaps, group_columns, measure_groups
from tasks.models.metrics import LEVEL, finite, intervals, measure, row_loss
from tasks.models.skill import prior_losses, relative_loss, summarise_outcomes
from tasks.models.targets import outcomes, prediction_array, prediction_columns
from tasks.resources import Resources
from tasks.steps.collect import join_outcomes, newest_labels
from tasks.steps.decay import losses_by_block
from tasks.steps.score import scored_by
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.steps.target_drift import target_drift
from tasks.storage.blocks import labelled_blocks
from tasks.storage.files import digest_json
from tasks.storage.personal import hash_inputs

if TYPE_CHECKING:
    import pandas as pd

VERSION = 8


def assess(ref: PartitionRef, res: Resources) -> StepOutput:
    """Compare a partition's predictions with its mature labels.

    The record has the metrics with their intervals, the number of rows without a label, losses and outcomes by block of time, the
    skill, the errors of the earlier estimate, the drift of the outcomes, the calibration, and the performance of the declared groups.
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
        **_skill(losses, summaries, blocks, config),
        "estimate": reconcile(res.lake.record(Stage.ESTIMATES, ref.key), metrics, config),
        "target": target_drift(joined, scored_by(ref, res), res),
        "calibration": calibration_bins(outcome, predicted, target),
        **_groups(joined, losses, ref, res),
    }
    if res.pages:
        data = write_performance_report(ref, data, res)
    collected = res.lake.done(Stage.LABELS, ref.key).as_of
    return StepOutput(rows=len(joined), data=data, as_of=moment or max(collected, ref.as_of))


def _skill(losses: np.ndarray, summaries: list[list[float]], blocks: np.ndarray, config: ModelConfig) -> dict[str, Any]:
    """The loss of the partition's own prior, the skill, which is 1 minus the loss as a share of it, and the skill's 95 % interval."""
    if not len(losses):
        return {"prior_loss": None, "skill": None, "skill_interval": None}
    target, gain = config.target, config.gate.gain
    sums, rows = block_sums(losses, blocks)
    prior = float(prior_losses(rows, summaries, target).sum() / len(losses))
    share, linear = relative_loss(rows, sums, summaries, target)
    largest = float(losses.max()) / prior if prior > 0 else np.inf
    bounds = mean_bounds(linear, rows, LEVEL, gain.resamples, config.training.seed, 0.0, largest)
    interval = [1 - bounds.upper, 1 - bounds.lower]
    return {
        **finite({"prior_loss": prior, "skill": 1 - share}),
        "skill_interval": interval if np.isfinite(interval).all() else None,
    }


def _groups(joined: "pd.DataFrame", losses: np.ndarray, ref: PartitionRef, res: Resources) -> dict[str, Any]:
    """The losses of the declared segments, and the gaps of the fairness rules."""
    config, columns = res.config, group_columns(res.config)
    if not columns or not len(joined):
        return {"segments": {}, "fairness": []}
    values = res.lake.read(Stage.VALID, ref.key, [config.key, *columns])
    rows = joined[[config.key, config.target.column]].merge(values, on=config.key, how="left", validate="one_to_one")
    rows = rows.reindex(columns=[config.key, config.target.column, *columns])
    outcome, predicted = outcomes(joined, config.target), prediction_array(joined, config.target)
    gaps = list(fairness_gaps(rows, outcome, predicted, config))
    return {"segments": measure_groups(rows, losses, config), "fairness": gaps}


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
    """Return the digests of predictions, labels, estimates and the rules that are used, and the `cutoff` if there is one."""
    upstream = {str(stage): upstream_record(ref, res, stage).digest for stage in (Stage.PREDICTIONS, Stage.LABELS)}
    estimated, config = res.lake.record(Stage.ESTIMATES, ref.key), res.config
    drift_rules = config.monitoring.model_dump(include={"block", "alpha", "resamples", "numeric", "categorical"})
    groups = [group_columns(config), [rule.model_dump() for rule in config.gate.fairness], *hash_inputs(config)]
    rules = [drift_rules, config.gate.gain.model_dump(), config.training.seed, *groups]
    moment = cutoff(ref, res)
    digests = {**upstream, "estimates": estimated.digest if estimated else "", "config": digest_json(rules)}
    if groups[0]:
        digests["valid"] = upstream_record(ref, res, Stage.VALID).digest
    return digests | ({"as_of": moment.isoformat()} if moment else {})


ASSESS = Step("assess", Stage.PERFORMANCE, VERSION, inputs, assess, moment="matured")
