"""Evidently's statistics and plots of a partition: the same methods and thresholds as the verdict, on a sample of the rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.settings import disable_telemetry
from tasks.contracts import ColumnDrift, PartitionRef, Stage
from tasks.drift.columns import cast_columns, text_columns
from tasks.drift.reference import Reference
from tasks.drift.scores import ks_p_value
from tasks.resources import Resources
from tasks.storage.personal import hide_categories

if TYPE_CHECKING:
    import pandas as pd

UNREACHABLE = 1e9
"""Threshold of a column that is shown but not tested: no score reaches it."""


def current_rows(ref: PartitionRef, res: Resources) -> "pd.DataFrame":
    """The partition's features and predictions, with the key as index."""
    config = res.config
    valid, scored = (
        hide_categories(config, res.lake.read(Stage.VALID, ref.key)),
        res.lake.read(Stage.PREDICTIONS, ref.key),
    )
    features = valid.set_index(config.key)[[name for name in config.features.all if name in valid]]
    return features.assign(prediction=scored["prediction"].to_numpy())


def sample_by_key(frame: "pd.DataFrame", rows: int) -> "pd.DataFrame":
    """Return at most `rows` rows, in the frame's order: those whose index labels have the smallest hashes.

    With the key as index the sample does not depend on the order of the rows.
    """
    import pandas as pd

    if len(frame) <= rows:
        return frame
    hashes = pd.util.hash_array(frame.index.to_numpy())
    return frame.iloc[np.sort(np.argsort(hashes, kind="stable")[:rows])]


def reference_rows(references: Sequence[Reference], res: Resources) -> "pd.DataFrame":
    """One frame in which each column comes from its own reference. Shorter columns end in nulls, which Evidently ignores."""
    import pandas as pd

    text = text_columns(res.config)
    parts = [
        cast_columns(hide_categories(res.config, r.rows()), r.columns, text).reset_index(drop=True) for r in references
    ]
    joined = pd.concat(parts, axis=1)
    for name in joined:
        joined[name] = joined[name].astype(object if name in text else "float64")
        if name in text:
            joined[name] = joined[name].where(joined[name].notna(), None)
    return joined


def run_evidently(
    current: "pd.DataFrame",
    reference: "pd.DataFrame",
    shown: Mapping[str, ColumnDrift],
    text: Sequence[str],
    title: str,
    about: Mapping[str, Any],
    ref: PartitionRef,
) -> Any:
    """Return Evidently's snapshot: every column's statistic with its test and plots.

    Args:
        current: Rows of the partition, from `cast_columns`.
        reference: Rows of the references, from `cast_columns`.
        shown: The columns to show, with their statistic and threshold.
        text: The columns that are text.
        title: Title of the report.
        about: Metadata of the run.
        ref: The partition.
    """
    disable_telemetry()
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    names = list(shown)
    definition = DataDefinition(
        numerical_columns=[c for c in names if c not in text], categorical_columns=[c for c in names if c in text]
    )
    counts = {c: (float(reference[c].notna().sum()), float(current[c].notna().sum())) for c in names}
    metrics = [
        ValueDrift(column=c, method=d.method, threshold=evidently_threshold(d, *counts[c])) for c, d in shown.items()
    ]
    sides = [
        Dataset.from_pandas(side[names].reset_index(drop=True), data_definition=definition)
        for side in (current, reference)
    ]
    start = ref.start.astimezone(UTC).replace(tzinfo=None)  # Evidently's times are naive
    with np.errstate(all="ignore"):  # correlations of constant columns, in plots only
        return Report(metrics, include_tests=True).run(*sides, timestamp=start, metadata=dict(about), name=title)


def evidently_threshold(d: ColumnDrift, reference: float, current: float) -> float:
    """Convert a threshold to Evidently's unit: for `ks` the p-value of the distance with these numbers of rows.

    A column without a threshold gets one that is never reached.
    """
    if d.method == "ks":
        return -1.0 if d.threshold is None else ks_p_value(min(d.threshold, 1.0), reference, current)
    return UNREACHABLE if d.threshold is None else d.threshold


def drift_by_column(snapshot: Any) -> dict[str, bool]:
    """Whether Evidently detects drift, by column."""
    tests = snapshot.dict()["tests"]
    return {t["metric_config"]["params"]["column"]: "SUCCESS" not in str(t["status"]).upper() for t in tests}
