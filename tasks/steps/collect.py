"""Collect a partition's outcomes as they become known: mature, late, corrected, or never to come."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from configs.schema import ModelConfig, Target
from tasks.contracts import PartitionRef, Stage
from tasks.errors import BadData
from tasks.resources import Resources
from tasks.source.extent import is_served, table_fingerprint
from tasks.source.rows import read_labels
from tasks.steps.step import Step, StepOutput, upstream_record
from tasks.storage.files import digest_json
from tasks.storage.frames import filter_rows

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2


@dataclass(frozen=True)
class Sorted:
    """Labels sorted out as of one moment.

    `known` has every outcome that was ever told of a key, with when; null where there never will be one.
    """

    known: "pd.DataFrame"
    bad: "pd.DataFrame"
    mature: int
    never: int
    pending: int
    """Rows without a label or a word that none will come."""
    later: int
    """Labels that the source has and that were not known yet, corrections among them."""


def sort_labels(labels: "pd.DataFrame", rows: "pd.DataFrame", config: ModelConfig, as_of: datetime) -> Sorted:
    """Take what was known at or before `as_of`, and put aside what cannot be true.

    `labels` has key, target and `known_at`; `rows` has key and time of the raw partition. Where
    a key has several known-times the newest counts, as a correction, and the earlier ones are kept for looks from
    earlier moments; the same known-time twice is a duplicate, and neither is believed.
    """
    key, target = config.key, config.target.column
    times = rows.drop_duplicates(key).set_index(key)[config.time]
    row_time = labels[key].map(times)
    value = labels[target]
    possible, impossible = _possible(value, config.target)
    wrong = {
        "no key": labels[key].isna(),
        "no row has this key": labels[key].notna() & row_time.isna(),
        "the same key and known-time twice": labels[key].notna() & labels.duplicated([key, "known_at"], keep=False),
        f"{target} is {impossible}": value.notna() & ~possible,
        "no known-time": value.notna() & labels["known_at"].isna(),
        "known before the moment of its row": labels["known_at"] < row_time,
    }
    marks = np.column_stack([mask.to_numpy(dtype=bool) for mask in wrong.values()])
    faulty = marks.any(axis=1)
    why = ["; ".join(np.array(list(wrong))[found]) for found in marks[faulty]]
    bad = labels[faulty].assign(reasons=np.array(why, dtype=object))
    known = labels[~faulty & (labels["known_at"] <= as_of)].sort_values([key, "known_at"])
    told = newest_of(known, config)
    mature = int(told[target].notna().sum())
    later = int((~faulty & (labels["known_at"] > as_of).to_numpy()).sum())
    return Sorted(known, bad, mature, len(told) - mature, len(times) - len(told), later)


def newest_of(labels: "pd.DataFrame", config: ModelConfig, as_of: datetime | None = None) -> "pd.DataFrame":
    """One row a key: what was told last at or before `as_of`, by default at all. A null outcome is one that never will be.

    Takes labels as `sort_labels` leaves them, which is how they are kept: by key, and of a key the earlier known-time first.
    """
    told = labels if as_of is None else filter_rows(labels, labels["known_at"] <= as_of)
    keys = told[config.key].array
    last: np.ndarray = np.ones(len(told), dtype=bool)
    last[:-1] = keys[1:] != keys[:-1]
    return filter_rows(told, last)


def join_outcomes(rows: "pd.DataFrame", told: "pd.DataFrame", config: ModelConfig) -> "pd.DataFrame":
    """Those rows, in their order, whose outcome is known and exists, with it; `told` has one row a key.

    Raises:
        ValueError: a key stands twice on one side.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    known = told[told[config.target.column].notna()]
    keys = pa.array(rows[config.key])
    there = pa.array(known[config.key]).cast(keys.type)
    at = pc.fill_null(pc.index_in(keys, there), -1).to_numpy()
    at, found = at[at >= 0], filter_rows(rows, at >= 0).reset_index(drop=True)
    if np.bincount(at, minlength=1).max() > 1 or len(there) != pc.count_distinct(there).as_py():
        raise ValueError(f"{config.name}: a {config.key} stands twice among rows or outcomes that are to be joined")
    return found.assign(**{config.target.column: known[config.target.column].to_numpy()[at]})


def read_outcomes(res: Resources, key: str, as_of: datetime) -> "pd.DataFrame":
    """Key and outcome of a partition's rows, of those that had one as of a moment; a later correction is not seen.

    Raises:
        MissingPartition: its labels were never collected, or are blocked.
    """
    config = res.config
    told = newest_of(res.lake.read(Stage.LABELS, key), config, as_of)[[config.key, config.target.column]]
    return filter_rows(told, told[config.target.column].notna())


def _possible(value: "pd.Series", target: Target) -> tuple["pd.Series", str]:
    """Which outcomes can be true, and what is said of the others."""
    if target.kind == "binary":
        return value.isin([0, 1]), "not 0 or 1"
    if target.kind == "multiclass":
        return value.isin(target.classes), f"not in target.classes ({', '.join(target.classes)})"
    return value.abs() < float("inf"), "no finite number"


def collect(ref: PartitionRef, res: Resources) -> StepOutput:
    """Write key, outcome and known-time of every row whose outcome is known as of the ref's moment.

    Raises:
        BadData: more labels are faulty than `target.max_bad_share` allows.
    """
    config = res.config
    labels = read_labels(res.model, ref, res.threads).to_pandas()
    rows = res.lake.read(Stage.RAW, ref.key, [config.key, config.time])
    if is_served(res.model, ref.key):  # the tables also have outcomes of what nobody asked about
        labels = labels[labels[config.key].isin(rows[config.key].dropna())]
    moment = datetime.fromisoformat(inputs(ref, res)["as_of"])
    found = sort_labels(labels, rows, config, moment)
    reasons = found.bad["reasons"].value_counts().head(10).to_dict()
    share = len(found.bad) / max(len(labels), 1)
    if share > config.target.max_bad_share:
        told = ", ".join(f"{n} x {reason}" for reason, n in reasons.items())
        raise BadData(
            f"{ref}: {len(found.bad)} of {len(labels)} labels are faulty ({told}), more than target.max_bad_share = "
            f"{config.target.max_bad_share:g} allows; mend {config.source.labels} or its tables"
        )
    digest = res.lake.write_frame(Stage.LABELS, ref.key, found.known)
    counts = {"mature": found.mature, "never": found.never, "pending": found.pending, "later": found.later}
    return StepOutput(len(found.known), digest, counts | {"faulty": len(found.bad), "reasons": reasons}, as_of=moment)


def inputs(ref: PartitionRef, res: Resources) -> dict[str, str]:
    """Labels are collected again when their source changed, or when some were to come or to be corrected at an earlier moment.

    A look from an earlier moment never takes back what is known already.
    """
    config = res.config
    wanted = {
        "source": table_fingerprint(res.model, ref),
        "raw": upstream_record(ref, res, Stage.RAW).digest,
        "config": digest_json(
            [
                config.source.queried(),
                res.model.labels_sql,
                config.target.model_dump(),
                config.key,
            ]
        ),
    }
    earlier = res.lake.record(Stage.LABELS, ref.key)
    if earlier is None:
        return wanted | {"as_of": ref.as_of.isoformat()}
    collected = datetime.fromisoformat(earlier.inputs["as_of"])
    unchanged = all(earlier.inputs.get(name) == value for name, value in wanted.items())
    settled = unchanged and earlier.data.get("pending") == 0 == earlier.data.get("later")
    return wanted | {"as_of": (collected if settled else max(collected, ref.as_of)).isoformat()}


COLLECT = Step("collect", Stage.LABELS, VERSION, inputs, collect)
