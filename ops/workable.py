"""Warnings about a model.yaml that is valid but cannot work: rules that no training or partition will ever satisfy.

Some follow from the file alone. Others need rows: those of the lake, else those of the source.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from configs.base import span_text
from configs.partitioning import HOURS
from configs.schema import ModelConfig
from ops.first_window import Sample, read_sample
from tasks.contracts import Stage
from tasks.errors import EvergreenError
from tasks.resources import Resources

if TYPE_CHECKING:
    import pandas as pd

MOST_QUARANTINED = 0.05
"""Share of quarantined rows up to which there is no warning."""


def warnings(res: Resources) -> Iterator[str]:
    """Yield a warning for each rule of a model that cannot work: file, key, value, the reason, and what to do.

    The last one is a note if neither the lake nor the source has rows, so that the rules about them were not checked.
    """
    path, (sample, missing) = res.model.folder / "model.yaml", read_sample(res)
    found = [*time_warnings(res.config), *(row_warnings(sample, res.config) if sample else ())]
    for key, value, problem in (*found, *training_warnings(res)):
        yield ": ".join(part for part in (f"{path}", key, value, problem) if part)
    if missing:
        yield f"{path}: rules about numbers of rows, groups and expectations were not checked, because there are no rows: {missing}"


def time_warnings(config: ModelConfig) -> Iterator[tuple[str, str, str]]:
    """Yield key, value and problem of the durations and counts that exclude each other."""
    window, gain, holdout = config.training.window, config.gate.gain, config.training.window.holdout
    block, length = (timedelta(hours=HOURS[every]) for every in (gain.block, config.partition.every))
    if gain.unjudged == "fail" and (blocks := ceil(holdout / block)) < gain.min_blocks:
        yield (
            "gate.gain.min_blocks",
            str(gain.min_blocks),
            f"training.window.holdout ({span_text(holdout)}) has at most {blocks} blocks of gate.gain.block ({gain.block}), so the gain "
            f"can never be judged, and the gate refuses every challenger. Lower min_blocks, lengthen the holdout, or use shorter blocks",
        )
    reserved = 2 * (holdout + config.target.delay)
    if window.partitions and window.partitions * length <= reserved:
        yield (
            "training.window.partitions",
            str(window.partitions),
            f"at most {span_text(window.partitions * length)}. The holdout, a validation split of the same length, and the label "
            f"delay before each need more than {span_text(reserved)}, so every training fails. Use more partitions, or a shorter holdout",
        )
    rules = config.retraining
    by_signal = not rules.signals.expected_gain and (
        rules.signals.drift or rules.signals.target or rules.signals.decay or rules.signals.estimate
    )
    if by_signal and rules.cool_down <= holdout:
        yield (
            "retraining.cool_down",
            span_text(rules.cool_down),
            f"not longer than training.window.holdout ({span_text(holdout)}). A challenger is judged without the rows of its holdout, so "
            f"until then it has learned nothing that the champion has not. Lengthen cool_down, or use signals.expected_gain",
        )


def row_warnings(sample: Sample, config: ModelConfig) -> Iterator[tuple[str, str, str]]:
    """Yield key, value and problem of the numbers of rows that the data do not reach, and of what the first window breaks."""
    decay, gate, window = config.monitoring.decay, config.gate, config.training.window
    count, held = f"{sample.rows:.0f} rows (in {sample.origin})", sample.per_day * (window.holdout / timedelta(days=1))
    if sample.rows * decay.partitions < decay.min_rows:
        yield (
            "monitoring.decay.min_rows",
            str(decay.min_rows),
            f"a partition has about {count}, and monitoring.decay.partitions is {decay.partitions}, so decay is never evaluated. "
            f"Set decay.partitions to at least {ceil(decay.min_rows / max(sample.rows, 1))}, or lower min_rows",
        )
    if held < gate.min_rows:
        yield (
            "gate.min_rows",
            str(gate.min_rows),
            f"a holdout of {span_text(window.holdout)} has about {held:.0f} rows, since a partition has about {count}. No rule of the gate "
            f"can be judged, so every challenger is refused. Lengthen training.window.holdout, or lower min_rows",
        )
    fitted = sample.rows * (window.partitions or 0) - 2 * held
    if window.partitions and fitted < window.min_rows:
        yield (
            "training.window.min_rows",
            str(window.min_rows),
            f"{window.partitions} partitions of about {count} have about {max(fitted, 0):.0f} before the holdout and a validation split of "
            f"the same length, so every training fails. Use more partitions, or lower min_rows",
        )
    if sample.blocked:
        yield (
            "expectations",
            "",
            f"the first partition would be blocked: {sample.blocked}. Correct the source or the expectation",
        )
    elif sample.quarantined[0] > MOST_QUARANTINED:
        yield (
            "expectations",
            "",
            f"{sample.quarantined[0]:.0%} of the first partition's rows would be quarantined (in {sample.origin}), so they are neither "
            f"scored nor learned from: {sample.quarantined[1]}. Correct the source or the expectation, or use `severity: info`",
        )
    yield from _group_warnings(sample, config)


def _group_warnings(sample: Sample, config: ModelConfig) -> Iterator[tuple[str, str, str]]:
    """Yield the minima of rows of the gate's rules about groups that the first holdout does not reach."""
    segments, where = config.gate.segments, f"in the first holdout (in {sample.origin})"
    sizes = {name: _sizes(sample.holdout[name]) for name in sample.holdout if len(sample.holdout)}
    judged = [sizes[name].max() for name in segments.columns if name in sizes] if segments else []
    if segments and segments.unjudged == "fail" and judged and max(judged) < segments.min_rows:
        yield (
            "gate.segments.min_rows",
            str(segments.min_rows),
            f"the largest segment has {max(judged)} rows {where}, so the rule cannot be judged, and the gate refuses. Lower min_rows",
        )
    for number, rule in enumerate(config.gate.fairness):
        groups = sizes.get(rule.column)
        if groups is None or rule.unjudged == "pass" or (len(groups) > 1 and groups.min() >= rule.min_rows):
            continue
        smallest = (
            f"group {groups.idxmin()!r} has {groups.min()} rows" if len(groups) > 1 else "there is only one group"
        )
        yield (
            f"gate.fairness[{number}].min_rows",
            str(rule.min_rows),
            f"{smallest} {where}, so the gap by {rule.column} cannot be judged, and the gate refuses. Lower min_rows, or merge groups",
        )


def _sizes(values: "pd.Series") -> "pd.Series":
    """Return the number of rows of each value, as the gate groups them. Null counts as a value."""
    return values.astype(object).where(values.notna(), "(null)").value_counts()


def training_warnings(res: Resources) -> Iterator[tuple[str, str, str]]:
    """Yield the limits of the gate that the last training did not keep, if the model has no champion yet."""
    from tasks.reports.advice import key_of_rule
    from tasks.reports.refusals import last_refusal

    if not res.lake.keys(Stage.VALID):
        return  # nothing was run, so there may be no database either
    try:
        refusal = last_refusal(res) if res.ledger.champion() is None else None
    except (EvergreenError, SQLAlchemyError, OSError):
        return
    for text in refusal.rules if refusal and not refusal.failed else ():
        key = key_of_rule(text)
        assert refusal
        yield (
            key,
            config_value(key, res.config),
            f"the training as of {refusal.as_of:%Y-%m-%d} was refused, and there is no champion yet. {text}. "
            f"Change the limit, the candidates or the window",
        )
    if refusal and refusal.failed:
        yield "training", "", f"{refusal.headline}, and there is no champion yet: {refusal.advice}"


def config_value(key: str, config: ModelConfig) -> str:
    """Return the value of a dotted key as text, empty for a section."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return f"{value:g}" if isinstance(value, int | float) else ""
