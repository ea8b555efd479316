"""Warnings about a model.yaml that is valid but cannot work: rules that no training or partition will ever satisfy.

Some follow from the file alone. Others need rows: those of the lake, else those of the source.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from configs.base import span_text
from configs.errors import ConfigError
from configs.schema import HOURS, ModelConfig
from ops.play_range import training_partitions
from tasks.contracts import Stage
from tasks.errors import EvergreenError
from tasks.resources import Resources
from tasks.source.extent import available_partitions, why_no_partition

if TYPE_CHECKING:
    import pandas as pd

MOST_READ = 31
"""Maximum partitions that are read from the source: those of the first holdout."""


@dataclass(frozen=True)
class Sample:
    """The rows of the first training window.

    Attributes:
        origin: `the lake` or `the source`.
        rows: Median number of rows of a partition.
        per_day: Rows of a day of time.
        holdout: The rows of the last partitions of the window, which contain its holdout.
        blocked: Why the first partition would be blocked, empty if it would not.
    """

    origin: str
    rows: float
    per_day: float
    holdout: "pd.DataFrame"
    blocked: str


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


KEY_OF_RULE = {
    "calibration error": "gate.calibration.at_most",
    "gain over the champion (refresh)": "gate.refresh",
    "gain over version": "gate.refresh",
    "gain": "gate.gain",
    "fairness: ": "gate.fairness",
    "latency of one row": "gate.budgets.one_row_ms",
    "latency of a thousand rows": "gate.budgets.thousand_rows_ms",
    "size, MB": "gate.budgets.size_mb",
    "mean move of predictions": "gate.refit.max_move",
}
"""The key of model.yaml with the limit of a rule, by the beginning of the rule's name. Other rules are about the candidates."""


def training_warnings(res: Resources) -> Iterator[tuple[str, str, str]]:
    """Yield the limits of the gate that the last training did not keep, if the model has no champion yet."""
    from tasks.reports.refusals import last_refusal

    if not res.lake.keys(Stage.VALID):
        return  # nothing was run, so there may be no database either
    try:
        refusal = last_refusal(res) if res.ledger.champion() is None else None
    except (EvergreenError, SQLAlchemyError, OSError):
        return
    for text in refusal.rules if refusal else ():
        rule = text.removeprefix("refit: ").removeprefix("shadow: ")
        floor = f"gate.floor.{rule.split(': ')[1]}" if rule.startswith("floor: ") else ""
        key = floor or next(
            (key for start, key in KEY_OF_RULE.items() if rule.startswith(start)), "training.candidates"
        )
        assert refusal
        yield (
            key,
            config_value(key, res.config),
            f"the training as of {refusal.as_of:%Y-%m-%d} was refused, and there is no champion yet. {text}. "
            f"Change the limit, the candidates or the window",
        )


def config_value(key: str, config: ModelConfig) -> str:
    """Return the value of a dotted key as text, empty for a section."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return f"{value:g}" if isinstance(value, int | float) else ""


def read_sample(res: Resources) -> tuple[Sample | None, str]:
    """Return the sample of the first training window from the lake, else from the source; or None and why there is none."""
    try:
        if done := _validated(res):
            return lake_sample(done, res), ""
        keys = available_partitions(res.model)
        return (source_sample(keys, res), "") if keys else (None, why_no_partition(res.model))
    except (EvergreenError, ConfigError, OSError) as error:
        return None, str(error)


def _validated(res: Resources) -> dict[str, int]:
    """Return the number of valid rows of each validated partition with rows."""
    records = (res.lake.record(Stage.VALID, key) for key in res.lake.keys(Stage.VALID))
    return {r.partition: r.rows for r in records if r and r.status == "done" and r.rows}


def lake_sample(rows: Mapping[str, int], res: Resources) -> Sample:
    """Return the sample of validated partitions. `rows` has their numbers of rows, oldest first."""
    import pandas as pd

    keys = list(rows)
    held = _holdout_keys(keys, res)
    frames = [res.lake.read(Stage.VALID, key, [*res.config.features.categorical, *res.config.groups]) for key in held]
    record = res.lake.record(Stage.VALID, res.lake.keys(Stage.VALID)[0])
    blocked = record.reason if record and record.status == "blocked" else ""
    return _sample("the lake", rows, pd.concat(frames, ignore_index=True), blocked, res)


def source_sample(keys: list[str], res: Resources) -> Sample:
    """Return the sample of partitions of the source, of which only those of the first holdout and the first one are read."""
    import pandas as pd

    from tasks.source.rows import read_source
    from tasks.validation.expectations import structural_expectations, validate_frame

    frames = {key: read_source(res.model, res.ref(key)).to_pandas() for key in _holdout_keys(keys, res)}
    first = frames[keys[0]] if keys[0] in frames else read_source(res.model, res.ref(keys[0])).to_pandas()
    result = validate_frame(first, structural_expectations(res.config) + res.config.expectations, res.config.key)
    blocked = "; ".join(f.message for f in result.blocking) if len(first) else ""
    rows = {key: len(frame) for key, frame in frames.items() if len(frame)} or {keys[0]: len(first)}
    names = [*res.config.features.categorical, *res.config.groups]
    return _sample("the source", rows, pd.concat(frames.values(), ignore_index=True)[names], blocked, res)


def _holdout_keys(keys: list[str], res: Resources) -> list[str]:
    """Return the last partitions of the first training window, which contain its holdout."""
    window = keys[: training_partitions(keys, res.config)]
    start = res.ref(window[-1]).end - res.config.training.window.holdout
    return [key for key in window if res.ref(key).end > start][-MOST_READ:]


def _sample(origin: str, rows: Mapping[str, int], holdout: "pd.DataFrame", blocked: str, res: Resources) -> Sample:
    days = sum((ref.end - ref.start) / timedelta(days=1) for ref in map(res.ref, rows))
    return Sample(origin, float(median(rows.values())), sum(rows.values()) / days, holdout, blocked)
