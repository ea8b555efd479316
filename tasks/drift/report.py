"""Evidently's owner: compares a partition with the reference and shows it. The one verdict comes from here.

Evidently names and computes each column's statistic; what it leaves out of a score (nulls,
infinities, whole columns) is a signal of its own, `missing`: the change in the share of rows
without a usable value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import Method, ModelConfig
from configs.settings import silence_vendors
from tasks.contracts import ColumnDrift, Drift
from tasks.drift.workspace import publish
from tasks.errors import NotEnoughData
from tasks.lake import replacing

if TYPE_CHECKING:
    import pandas as pd

PREDICTION = "prediction"
MISSING = "missing"


def compare(
    current: "pd.DataFrame",
    reference: "pd.DataFrame",
    config: ModelConfig,
    *,
    title: str,
    html: Path | None,
    workspace: Path | None,
    metadata: Mapping[str, str],
    at: datetime | None = None,
) -> Drift:
    """Compare the features and the column `prediction` of two frames, and write page and run of the same verdict.

    Each side's statistic is taken on a sample of `monitoring.sample_rows`, missingness on all
    rows. `metadata` stands on the page and on the run; `metadata["partition"]` names the run, so
    that the same partition again replaces it. `at` is the run's place on the dashboard's time axis.

    Raises:
        NotEnoughData: the reference has no rows.
    """
    if len(reference) == 0:
        raise NotEnoughData(f"{title}: the reference has no rows; train the model on partitions that have some")
    rows = config.monitoring.sample_rows
    now, then = tidy(current, config), tidy(reference, config)
    taken, held = sample(now, rows), sample(then, rows)
    methods = {c: m for c, m in _methods(config).items() if taken[c].notna().any() and held[c].notna().any()}
    snapshot = _run(taken, held, methods, config, title, dict(metadata), at)
    drift = judge(_scores(snapshot), _missing(now, then, config, methods), config, len(taken))
    if html is None and workspace is None:
        return drift
    note = (
        f"Statistics on {_of(taken, now)} of the partition and {_of(held, then)} of the reference; nulls on all rows."
    )
    page = _page(snapshot, drift, [title, note, *(f"{k}: {v}" for k, v in metadata.items())])
    return _write(page, drift, config, html, workspace, metadata.get("partition", title))


def sample(frame: "pd.DataFrame", rows: int) -> "pd.DataFrame":
    """At most `rows` rows, the same ones each time, in the frame's order.

    Takes the rows whose index labels have the smallest hashes. With the rows' key as index, their
    order does not matter; with a plain range, their positions stand for them.
    """
    import pandas as pd

    if len(frame) <= rows:
        return frame
    hashes = pd.util.hash_array(frame.index.to_numpy())
    return frame.iloc[np.sort(np.argsort(hashes, kind="stable")[:rows])]


def tidy(frame: "pd.DataFrame", config: ModelConfig) -> "pd.DataFrame":
    """All columns that are compared, as NumPy float64 and object (Evidently drops other types unsaid).

    A column that is not there, an infinity and what is no number become null.
    """
    import pandas as pd

    def one(column: str) -> Any:
        if column not in frame:
            return np.full(len(frame), np.nan) if column not in texts(config) else None
        values = frame[column].astype(object)
        if column in texts(config):
            return values.map(str, na_action="ignore").astype(object).where(values.notna(), None)
        numbers = pd.to_numeric(values, errors="coerce").astype("float64")
        return numbers.where(np.isfinite(numbers))

    return pd.DataFrame({c: one(c) for c in _methods(config)}, index=frame.index)


def judge(
    scores: Sequence[ColumnDrift], missing: Sequence[ColumnDrift], config: ModelConfig, sampled_rows: int
) -> Drift:
    """The verdict: the share of columns that drifted by their statistic or by missing values."""
    columns = tuple(sorted((*scores, *missing), key=lambda c: (not c.drifted, -c.score / c.threshold, c.column)))
    share = len({c.column for c in columns if c.drifted}) / len(_methods(config))
    limit = config.monitoring.share
    return Drift(columns, share, limit, detected=share >= limit, sampled_rows=sampled_rows)


def rows(drift: Drift) -> list[dict[str, Any]]:
    """The columns as a table, what drifted most first."""
    return [
        {
            "column": c.column,
            "method": c.method,
            "score": round(c.score, 4),
            "threshold": c.threshold,
            "drifted": "drifted" if c.drifted else "",
        }
        for c in drift.columns
    ]


def _methods(config: ModelConfig) -> dict[str, Method]:
    """Every compared column's statistic."""
    everything = dict.fromkeys((*config.features.numeric, PREDICTION, *config.features.categorical))
    return {c: config.monitoring.categorical if c in texts(config) else config.monitoring.numeric for c in everything}


def texts(config: ModelConfig) -> tuple[str, ...]:
    """The columns that are text: categorical features, and the prediction where it is a class."""
    return (*config.features.categorical, *((PREDICTION,) if config.target.kind == "multiclass" else ()))


def _missing(
    now: "pd.DataFrame", then: "pd.DataFrame", config: ModelConfig, scored: Mapping[str, Method]
) -> list[ColumnDrift]:
    """Changes in the share of nulls: those that matter, and every column without a statistic."""
    limit = config.monitoring.missing
    change = {c: abs((float(now[c].isna().mean()) if len(now) else 1.0) - float(then[c].isna().mean())) for c in now}
    return [ColumnDrift(c, MISSING, d, limit, d >= limit) for c, d in change.items() if d >= limit or c not in scored]


def _run(
    current: "pd.DataFrame",
    reference: "pd.DataFrame",
    methods: Mapping[str, Method],
    config: ModelConfig,
    title: str,
    metadata: dict[str, Any],
    at: datetime | None,
) -> Any:
    """Evidently's snapshot: every column's statistic, its test and its plots, computed once."""
    silence_vendors()
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    categorical = [c for c in methods if c in texts(config)]
    definition = DataDefinition(
        numerical_columns=[c for c in methods if c not in categorical], categorical_columns=categorical
    )
    metrics = [ValueDrift(column=c, method=m.method, threshold=m.threshold) for c, m in methods.items()]
    sides = [
        Dataset.from_pandas(side[list(methods)].reset_index(drop=True), data_definition=definition)
        for side in (current, reference)
    ]
    moment = at.astimezone(UTC).replace(tzinfo=None) if at else None  # Evidently's times are naive
    with np.errstate(all="ignore"):  # correlations of constant columns, in plots only
        return Report(metrics, include_tests=True).run(*sides, timestamp=moment, metadata=metadata, name=title)


def _scores(snapshot: Any) -> list[ColumnDrift]:
    """Evidently's own scores and verdicts. A score that is no number counts as drifted."""
    result = snapshot.dict()
    status = {t["metric_config"]["params"]["column"]: str(t["status"]) for t in result["tests"]}
    found = []
    for metric in result["metrics"]:
        config, score = metric["config"], float(metric["value"])
        drifted = "SUCCESS" not in status[config["column"]].upper() or not np.isfinite(score)
        found.append(ColumnDrift(config["column"], config["method"], score, config["threshold"], drifted))
    return found


def _of(part: "pd.DataFrame", whole: "pd.DataFrame") -> str:
    if len(part) == len(whole):
        return f"all {len(whole):,} rows"
    return f"a fixed sample of {len(part):,} of the {len(whole):,} rows"


def _page(snapshot: Any, drift: Drift, notes: Sequence[str]) -> Any:
    """Evidently's snapshot as data, with our verdict above it and the share as a metric for the dashboard."""
    from evidently.core.metric_types import CountValue, SingleValue
    from evidently.legacy.renderers.html_widgets import CounterData, counter, table_data, text_widget
    from evidently.metrics import DriftedColumnsCount

    page = snapshot.to_snapshot_model()
    drifted = len({c.column for c in drift.columns if c.drifted})
    said = "Drift" if drift.detected else "No drift"
    verdict = f"{said}: {drift.share:.1%} of columns (limit {drift.threshold:.1%})"
    table = [(c.column, c.method, f"{c.score:.4f}", c.threshold, "drifted" if c.drifted else "") for c in drift.columns]
    header = [
        counter(title=notes[0], counters=[CounterData(verdict, f"{drifted} drifted")]),
        text_widget(text="\n\n".join(notes[1:])),
        table_data(title="Columns", column_names=["column", "method", "score", "threshold", ""], data=table),
    ]
    metric = DriftedColumnsCount(drift_share=drift.threshold).to_calculation()
    count = SingleValue(display_name="Drifted columns", value=drifted)
    share = SingleValue(display_name="Share of drifted columns", value=drift.share)
    value = CountValue(display_name="Drifted columns", count=count, share=share, widget=[])
    value.set_metric_location(metric.to_metric_config())
    page.widgets = header + page.widgets
    page.metric_results[metric.id] = value
    return page


def _write(
    page: Any, drift: Drift, config: ModelConfig, html: Path | None, workspace: Path | None, partition: str
) -> Drift:
    from evidently.core.report import Snapshot

    if html is not None:
        with replacing(html) as draft:
            draft.write_text(Snapshot.load_model(page).get_html_str(as_iframe=False), encoding="utf-8")
        drift = replace(drift, report=str(html))
    if workspace is not None:
        project, run = publish(page, workspace, config.name, partition, list(_methods(config)))
        drift = replace(drift, project=project, snapshot=run)
    return drift
