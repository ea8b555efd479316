"""Collect the labels of a partition as they become known: mature, late, corrected, or missing for good."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from configs.features import LARGEST_NUMBER
from configs.schema import ModelConfig
from configs.target import Target
from tasks.contracts import PartitionRef, Stage
from tasks.errors import BadData
from tasks.resources import Resources
from tasks.source.extent import is_served, table_fingerprint
from tasks.source.rows import read_labels
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.storage.files import digest_json
from tasks.storage.frames import filter_rows
from tasks.storage.personal import shown

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2


@dataclass(frozen=True)
class ClassifiedLabels:
    """Labels of a partition, classified as of one moment."""

    known: "pd.DataFrame"
    """Key, outcome and `known_at` of every valid label known by then, corrections included. Null means that there will be no outcome."""
    bad: "pd.DataFrame"
    """The faulty labels, with a column `reasons`."""
    mature: int
    never: int
    pending: int
    """Rows without any known label."""
    later: int
    """Labels in the source that were not known yet, corrections included."""


def classify_labels(
    labels: "pd.DataFrame", rows: "pd.DataFrame", config: ModelConfig, as_of: datetime
) -> ClassifiedLabels:
    """Separate the valid labels known at or before `as_of` from later and faulty ones.

    If a key has several values of `known_at`, the newest is a correction. The earlier ones are kept for point-in-time queries.
    Two labels with the same key and `known_at` are both faulty.

    Args:
        labels: Key, target and `known_at`.
        rows: Key and time of the raw partition.
        config: The model's config.
        as_of: The moment, inclusive.
    """
    key, target = config.key, config.target.column
    times = rows.drop_duplicates(key).set_index(key)[config.time]
    row_time = times.reindex(labels[key]).set_axis(labels.index)  # `map` gives floats if both are empty
    value = labels[target]
    valid, fault = _valid_outcomes(value, config.target)
    faults = {
        "no key": labels[key].isna(),
        "no row has this key": labels[key].notna() & row_time.isna(),
        "duplicate key and known_at": labels[key].notna() & labels.duplicated([key, "known_at"], keep=False),
        f"{target} is {fault}": value.notna() & ~valid,
        "no known_at": value.notna() & labels["known_at"].isna(),
        "known_at is before the time of its row": labels["known_at"] < row_time,
    }
    masks = np.column_stack([mask.to_numpy(dtype=bool) for mask in faults.values()])
    faulty = masks.any(axis=1)
    reasons = ["; ".join(np.array(list(faults))[mask]) for mask in masks[faulty]]
    bad = labels[faulty].assign(reasons=np.array(reasons, dtype=object))
    known = labels[~faulty & (labels["known_at"] <= as_of)].sort_values([key, "known_at"])
    newest = newest_labels(known, config)
    mature = int(newest[target].notna().sum())
    later = int((~faulty & (labels["known_at"] > as_of).to_numpy()).sum())
    return ClassifiedLabels(known, bad, mature, len(newest) - mature, len(times) - len(newest), later)


def newest_labels(labels: "pd.DataFrame", config: ModelConfig, as_of: datetime | None = None) -> "pd.DataFrame":
    """The newest label of each key. A null outcome means that there will be none.

    Args:
        labels: Labels sorted by key and `known_at`, as `classify_labels` returns them and the lake stores them.
        config: The model's config.
        as_of: Ignore labels that became known after this moment; None for no limit.
    """
    known = labels if as_of is None else filter_rows(labels, labels["known_at"] <= as_of)
    keys = known[config.key].array
    last: np.ndarray = np.ones(len(known), dtype=bool)
    last[:-1] = keys[1:] != keys[:-1]
    return filter_rows(known, last)


def join_outcomes(rows: "pd.DataFrame", labels: "pd.DataFrame", config: ModelConfig) -> "pd.DataFrame":
    """Inner join of rows and outcomes, in the order of the rows, without null outcomes. `labels` has one row per key.

    Raises:
        ValueError: a key occurs twice on one side. Keys are unique within a partition, so join one partition at a time.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    known = labels[labels[config.target.column].notna()]
    keys = pa.array(rows[config.key])
    label_keys = pa.array(known[config.key]).cast(keys.type)
    at = pc.fill_null(pc.index_in(keys, label_keys), -1).to_numpy()
    at, joined = at[at >= 0], filter_rows(rows, at >= 0).reset_index(drop=True)
    if np.bincount(at, minlength=1).max() > 1 or len(label_keys) != pc.count_distinct(label_keys).as_py():
        twice = [
            *joined.loc[joined[config.key].duplicated(), config.key],
            *known.loc[known[config.key].duplicated(), config.key],
        ]
        first = shown(config, config.key, twice[0])
        raise ValueError(
            f"{config.name}: {config.key} {first!r} occurs twice among the rows or the outcomes to join. Join the rows of one "
            f"partition at a time"
        )
    return joined.assign(**{config.target.column: known[config.target.column].to_numpy()[at]})


def read_outcomes(res: Resources, key: str, as_of: datetime) -> "pd.DataFrame":
    """Key and outcome of the rows that had one as of a moment, without later corrections.

    Raises:
        MissingPartition: the partition's labels were never collected, or are blocked.
    """
    config = res.config
    labels = newest_labels(res.lake.read(Stage.LABELS, key), config, as_of)[[config.key, config.target.column]]
    return filter_rows(labels, labels[config.target.column].notna())


def labelled_rows(
    key: str,
    as_of: datetime,
    res: Resources,
    stage: Stage = Stage.VALID,
    columns: list[str] | None = None,
    span: tuple[datetime, datetime] | None = None,
) -> "pd.DataFrame":
    """Read the rows of a partition that had an outcome as of a moment, with the outcome.

    At most two copies of the partition's rows are in memory.

    Args:
        key: The partition.
        as_of: Ignore outcomes that became known after this moment.
        res: The model's resources.
        stage: What to read: valid rows or predictions.
        columns: The columns to read, key and time among them; by default all.
        span: Start, inclusive, and end, exclusive, of the rows' times; by default the whole partition.

    Raises:
        MissingPartition: the partition has no such rows, or its labels were never collected, or one of them is blocked.
    """
    rows = res.lake.read(stage, key, columns)
    if span:
        rows = filter_rows(rows, (rows[res.config.time] >= span[0]) & (rows[res.config.time] < span[1]))
    return join_outcomes(rows, read_outcomes(res, key, as_of), res.config)


def _valid_outcomes(value: "pd.Series", target: Target) -> tuple["pd.Series", str]:
    """Which outcomes are valid, and the fault of the others."""
    if target.kind == "binary":
        return value.isin([0, 1]), "not 0 or 1"
    if target.kind == "multiclass":
        return value.isin(target.classes), f"not in target.classes ({', '.join(target.classes)})"
    return value.abs() <= LARGEST_NUMBER, f"not a finite number up to {LARGEST_NUMBER:.6g}"


def collect(ref: PartitionRef, res: Resources) -> StepOutput:
    """Write key, outcome and `known_at` of every label that is known as of the ref's moment, which is that of `inputs`.

    Raises:
        BadData: more labels are faulty than `target.max_bad_share` allows.
    """
    config = res.config
    labels = read_labels(res.model, ref, res.threads).to_pandas()
    rows = res.lake.read(Stage.RAW, ref.key, [config.key, config.time])
    own = labels[labels[config.key].isin(rows[config.key].dropna())]
    leaves_out = config.partition.late_rows == "ignore" and (
        len(own) or not len(rows)
    )  # no match at all is a wrong key
    if leaves_out or is_served(
        res.model, ref.key
    ):  # the tables also have outcomes of rows that were not taken or served
        labels = own
    classified = classify_labels(labels, rows, config, ref.as_of)
    known, faulty = classified.known, len(classified.bad)
    reasons = classified.bad["reasons"].value_counts().head(10).to_dict()
    if faulty / max(len(labels), 1) > config.target.max_bad_share:
        counted = ", ".join(f"{n} x {reason}" for reason, n in reasons.items())
        first, flat = classified.bad.iloc[0], config.source.file
        key, outcome = (shown(config, name, first[name]) for name in (config.key, config.target.column))
        raise BadData(
            f"{ref}: {faulty} of {len(labels)} labels are faulty ({counted}), more than target.max_bad_share = "
            f"{config.target.max_bad_share:g} allows; the first has {config.key} {key!r} and {config.target.column} {outcome}. "
            f"Fix {flat.path if flat else f'{config.source.labels} or its tables'}"
        )
    digest = res.lake.write_frame(Stage.LABELS, ref.key, known)
    data = {
        "mature": classified.mature,
        "never": classified.never,
        "pending": classified.pending,
        "later": classified.later,
        "faulty": faulty,
        "reasons": reasons,
    }
    return StepOutput(len(known), digest, data, as_of=ref.as_of)


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Digests of the inputs, and the moment as of which labels are collected.

    The moment moves on if the inputs have changed, or if labels were pending or known only later. It never moves back.
    """
    config = res.config
    digests = {
        "source": table_fingerprint(res.model, ref),
        "raw": upstream_record(ref, res, Stage.RAW).digest,
        "config": digest_json(
            [
                config.source.query_settings(),
                res.model.labels_sql,
                config.target.model_dump(),
                config.key,
            ]
        ),
    }
    if config.partition.late_rows == "ignore":
        digests["late_rows"] = "ignore"  # outcomes of other rows are left out
    earlier = res.lake.record(Stage.LABELS, ref.key)
    if earlier is None:
        return digests | {"as_of": ref.as_of.isoformat()}
    collected = datetime.fromisoformat(earlier.inputs["as_of"])
    unchanged = all(earlier.inputs.get(name) == value for name, value in digests.items())
    complete = unchanged and earlier.data.get("pending") == 0 == earlier.data.get("later")
    return digests | {"as_of": (collected if complete else max(collected, ref.as_of)).isoformat()}


COLLECT = Step("collect", Stage.LABELS, VERSION, inputs, collect, moment="matured")
