"""Evidently reports: a page and a workspace run that show the drift verdict, with the same statistics and thresholds.

Evidently scores a sample; the verdict uses all rows. If the two differ for a column, the page states it first, and the verdict is valid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.settings import disable_telemetry
from tasks.contracts import ColumnDrift, Drift, PartitionRef, Promotion, Stage
from tasks.drift.columns import cast_columns, methods, text_columns
from tasks.drift.reference import Reference
from tasks.drift.scores import ks_p_value
from tasks.drift.workspace import DASHBOARD_METRICS, ESTIMATED, REALISED, SCORE_NBINSX, publish, task_label
from tasks.resources import Resources
from tasks.storage.files import replacing

if TYPE_CHECKING:
    import pandas as pd

UNREACHABLE = 1e9
"""Threshold of a column that is shown but not tested: no score reaches it."""


def write_drift_report(
    ref: PartitionRef, drift: Drift, references: Sequence[Reference], champion: Promotion, res: Resources
) -> Drift:
    """Write the page and the workspace run of a verdict.

    Returns:
        The verdict with their addresses, and with the columns in which Evidently's result differs.
    """
    config = res.config
    rows = current_rows(ref, res)
    sampled = sample_by_key(rows, config.monitoring.sample_rows)
    statistics = methods(config)
    current = cast_columns(sampled, tuple(statistics), text_columns(config))
    reference = reference_rows(references, res)
    scored = {c.column: c for c in drift.columns if c.column in statistics and c.method == statistics[c.column].method}
    shown = {c: d for c, d in scored.items() if current[c].notna().any() and reference[c].notna().any()}
    title = f"{ref} compared with version {champion.version}"
    about = {"model": ref.model, "partition": ref.key, "version": champion.version, "as_of": ref.as_of.isoformat()}
    snapshot = run_evidently(current, reference, shown, text_columns(config), title, about, ref)
    drifted = drift_by_column(snapshot)
    drift = replace(drift, differs=tuple(sorted(c for c in shown if drifted[c] != shown[c].drifted)))
    notes = [
        f"Evidently's figures use {_sample_text(len(sampled), len(rows))} of the partition and up to "
        f"{config.monitoring.sample_rows:,} rows of each reference. The verdict uses all rows.",
        *(f"{name}: compared with {description}." for name, description in drift.references.items()),
        *(f"{k}: {v}" for k, v in about.items()),
        *(f"{name}: {url}" for name, url in page_links(champion, res).items() if url),
    ]
    page = build_page(snapshot, drift, title, notes)
    estimated = res.lake.record(Stage.ESTIMATES, ref.key)
    add_metrics(page, estimated.data["metrics"] if estimated else {}, task_label(config, ESTIMATED))
    add_scores(page, shown)
    html = res.lake.path(Stage.MONITORING, ref.key, "html")
    with replacing(html) as draft:
        draft.write_text(as_html(page), encoding="utf-8")
    project, run_number = publish(page, res.settings.evidently_workspace, config, res.title, ref.key)
    return replace(drift, report=str(html.relative_to(res.lake.root)), project=project, snapshot=run_number)


def page_links(champion: Promotion, res: Resources) -> dict[str, str]:
    """Addresses of the version in MLflow and of the run in Prefect, empty outside of a run."""
    run = f"{res.settings.prefect_ui}/runs/flow-run/{res.flow_run}" if res.flow_run else ""
    return {"MLflow": res.registry.version_url(champion.version), "Prefect": run}


def current_rows(ref: PartitionRef, res: Resources) -> "pd.DataFrame":
    """The partition's features and predictions, with the key as index."""
    config = res.config
    valid, scored = res.lake.read(Stage.VALID, ref.key), res.lake.read(Stage.PREDICTIONS, ref.key)
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
    parts = [cast_columns(r.rows(), r.columns, text).reset_index(drop=True) for r in references]
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


def _sample_text(sampled: int, rows: int) -> str:
    return f"all {rows:,} rows" if sampled == rows else f"a fixed sample of {sampled:,} of the {rows:,} rows"


def build_page(snapshot: Any, drift: Drift, title: str, notes: Sequence[str]) -> Any:
    """Convert Evidently's snapshot to its data model, with the verdict above it and the drifted share as a metric for the dashboard."""
    from evidently.core.metric_types import CountValue, SingleValue
    from evidently.legacy.renderers.html_widgets import CounterData, counter, table_data, text_widget
    from evidently.metrics import DriftedColumnsCount

    page = snapshot.to_snapshot_model()
    drifted = len({c.column for c in drift.columns if c.drifted})
    differs = (
        f"Differs from the verdict, because Evidently uses a sample: {', '.join(drift.differs)}. "
        f"The table here shows the verdict."
    )
    table = drift_table(drift)
    header = [
        counter(title=title, counters=[CounterData(drift_verdict(drift), f"{drifted} drifted")]),
        text_widget(
            text="\n\n".join([*([differs] if drift.differs else []), *([drift.note] if drift.note else []), *notes])
        ),
        table_data(title="Columns, most important first", column_names=[*table[0]], data=[[*r.values()] for r in table])
        if table
        else text_widget(text="No column could be compared."),
    ]
    metric = DriftedColumnsCount(drift_share=drift.threshold).to_calculation()
    count = SingleValue(display_name="Drifted columns", value=drifted)
    share = SingleValue(display_name="Share of drifted columns", value=drift.share)
    value = CountValue(display_name="Drifted columns", count=count, share=share, widget=[])
    value.set_metric_location(metric.to_metric_config())
    page.widgets = header + page.widgets
    page.metric_results[metric.id] = value
    return page


def as_html(page: Any) -> str:
    """Return the page of an Evidently run as a complete HTML document."""
    from evidently.core.report import Snapshot

    return Snapshot.load_model(page).get_html_str(as_iframe=False)


def add_metrics(page: Any, metrics: Mapping[str, float | None], label: Mapping[str, str]) -> None:
    """Add metrics for the dashboard's lines, as results of Evidently's metrics of the same name.

    Args:
        page: Evidently's `SnapshotModel`.
        metrics: Values by name. Those that the dashboard does not show are ignored.
        label: From `task_label`.
    """
    import evidently.metrics

    for name, value in metrics.items():
        if name in DASHBOARD_METRICS and value is not None:
            _add_result(page, getattr(evidently.metrics, DASHBOARD_METRICS[name])(**label), value)


def add_scores(page: Any, shown: Mapping[str, ColumnDrift]) -> None:
    """Add the scores for the dashboard's lines. The threshold is left out: it differs by partition and would start a new line."""
    from evidently.metrics import ValueDrift

    for name, c in shown.items():
        if c.score is not None:
            _add_result(page, ValueDrift(column=name, method=c.method, nbinsx=SCORE_NBINSX), c.score)


def _add_result(page: Any, metric: Any, value: float) -> None:
    """Add a value as the result of one of Evidently's metrics. Only the dashboard shows it."""
    from evidently.core.metric_types import SingleValue

    calculation = metric.to_calculation()
    result = SingleValue(display_name=calculation.display_name(), value=value, widget=[])
    result.set_metric_location(calculation.to_metric_config())
    page.metric_results[calculation.id] = result


def write_performance_report(ref: PartitionRef, data: Mapping[str, Any], res: Resources) -> dict[str, Any]:
    """Write a workspace run of a partition's realised performance. Return `data` with the ids of its project and run."""
    disable_telemetry()
    from evidently.core.serialization import ReportModel, SnapshotModel
    from evidently.legacy.renderers.html_widgets import table_data, text_widget

    about = {"model": ref.model, "partition": ref.key, "version": data["version"], "as_of": ref.as_of.isoformat()}
    estimated = data["estimate"]
    table = [
        [
            name,
            _number(value),
            _interval(data["intervals"].get(name)),
            _number(estimated["metrics"].get(name)),
            _number(estimated["errors"].get(name)),
        ]
        for name, value in data["metrics"].items()
    ]
    head = ["metric", "realised", "95 % interval", "estimated before", "realised - estimated"]
    maturity = (
        f"Rows: {data['scored']:,}. Outcome known: {data['mature']:,}. Outcome pending: {data['pending']:,}. "
        f"Without an outcome: {data['never']:,}."
    )
    page = SnapshotModel(
        report=ReportModel(items=[]),
        name=f"{ref}: performance of version {data['version']}",
        timestamp=ref.start.astimezone(UTC).replace(tzinfo=None),
        metadata=about,
        tags=[],
        metric_results={},
        top_level_metrics=[],
        widgets=[
            text_widget(text=maturity),
            table_data(title=f"{ref}, version {data['version']}", column_names=head, data=table),
        ],
        tests_widgets=[],
    )
    add_metrics(page, data["metrics"], task_label(res.config, REALISED))
    project, run_number = publish(
        page, res.settings.evidently_workspace, res.config, res.title, f"{ref.key} performance"
    )
    return {**data, "project": project, "snapshot": run_number}


def _interval(bounds: Sequence[float | None] | None) -> str:
    return f"{_number(bounds[0])} to {_number(bounds[1])}" if bounds else ""


def drift_verdict(drift: Drift) -> str:
    """The verdict in a few words, such as `Drift: 10% of columns (temp, dewp, ...)`."""
    columns = list(dict.fromkeys(c.column for c in drift.columns if c.drifted))
    names = f"{', '.join(columns[:4])}{' ...' if len(columns) > 4 else ''}"
    share = f"{drift.share:.0%} of columns" + (f", {drift.threshold:.0%} needed" if drift.threshold else "")
    if drift.detected:
        return f"Drift: {share} ({names})"
    return f"No drift: {share} ({names})" if columns else "No drift"


def drift_table(drift: Drift) -> list[dict[str, Any]]:
    """The columns as a table, most important first."""
    return [
        {
            "column": c.column,
            "method": c.method,
            "score": _number(c.score),
            "threshold": _number(c.threshold),
            "p-value": _number(c.p_value),
            "importance": "" if c.importance is None else f"{c.importance:.0%}",
            "verdict": "drifted" if c.drifted else c.note and "does not count",
            "against": c.reference,
        }
        for c in drift.columns
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
