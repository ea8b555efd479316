"""Evidently's owner: a page and a workspace run that show what `alarms` judged, with the same statistic and threshold.

Evidently scores a sample, the verdict is on all rows. Where the two differ for a column, the page
says so first, and the verdict stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.settings import silence_vendors
from tasks.contracts import ColumnDrift, Drift, PartitionRef, Promotion, Stage
from tasks.drift.columns import methods, texts, tidy
from tasks.drift.reference import Reference
from tasks.drift.scores import ks_p_value
from tasks.drift.workspace import ESTIMATED, FIGURES, MARK, REALISED, publish, task_label
from tasks.resources import Resources
from tasks.storage.files import replacing

if TYPE_CHECKING:
    import pandas as pd

NEVER = 1e9
"""The threshold of a column that is shown and does not count: no score reaches it."""


def show(ref: PartitionRef, drift: Drift, against: Sequence[Reference], champion: Promotion, res: Resources) -> Drift:
    """Write page and run of a verdict, and return it with where they are and the columns in which the page differs."""
    config = res.config
    whole = current_rows(ref, res)
    taken = sample(whole, config.monitoring.sample_rows)
    now, then = tidy(taken, tuple(methods(config)), texts(config)), reference_rows(against, res)
    wanted = methods(config)
    scored = {c.column: c for c in drift.columns if c.column in wanted and c.method == wanted[c.column].method}
    shown = {c: d for c, d in scored.items() if now[c].notna().any() and then[c].notna().any()}
    title = f"{ref} against what version {champion.version} knows"
    about = {"model": ref.model, "partition": ref.key, "version": champion.version, "as_of": ref.as_of.isoformat()}
    snapshot = run(now, then, shown, texts(config), title, about, ref)
    said = statuses(snapshot)
    drift = replace(drift, differs=tuple(sorted(c for c in shown if said[c] != shown[c].drifted)))
    rows = (len(taken), len(whole))
    notes = [
        f"Evidently's figures are of {_of(*rows)} of the partition and up to {config.monitoring.sample_rows:,} of each reference; "
        f"the verdict is on all rows.",
        *(f"{name} against {what}." for name, what in drift.references.items()),
        *(f"{k}: {v}" for k, v in about.items()),
        *(f"{name}: {url}" for name, url in links(champion, res).items() if url),
    ]
    page = build(snapshot, drift, title, notes)
    estimated = res.lake.record(Stage.ESTIMATES, ref.key)
    add_figures(page, estimated.data["metrics"] if estimated else {}, task_label(config, ESTIMATED))
    add_scores(page, shown)
    html = res.lake.path(Stage.MONITORING, ref.key, "html")
    with replacing(html) as draft:
        draft.write_text(as_html(page), encoding="utf-8")
    project, number = publish(page, res.settings.evidently_workspace, config, res.title, ref.key)
    return replace(drift, report=str(html.relative_to(res.lake.root)), project=project, snapshot=number)


def links(champion: Promotion, res: Resources) -> dict[str, str]:
    """Where to read on: the version in MLflow, and the run that made this page in Prefect."""
    run = f"{res.settings.prefect_ui}/runs/flow-run/{res.flow_run}" if res.flow_run else ""
    return {"MLflow": res.registry.version_url(champion.version), "Prefect": run}


def current_rows(ref: PartitionRef, res: Resources) -> "pd.DataFrame":
    """The partition's features and predictions, with the key as index."""
    config = res.config
    valid, scored = res.lake.read(Stage.VALID, ref.key), res.lake.read(Stage.PREDICTIONS, ref.key)
    features = valid.set_index(config.key)[[name for name in config.features.all if name in valid]]
    return features.assign(prediction=scored["prediction"].to_numpy())


def sample(frame: "pd.DataFrame", rows: int) -> "pd.DataFrame":
    """At most `rows` rows, the same ones each time, in the frame's order.

    Takes the rows whose index labels have the smallest hashes, so that with the rows' key as index their
    order does not matter.
    """
    import pandas as pd

    if len(frame) <= rows:
        return frame
    hashes = pd.util.hash_array(frame.index.to_numpy())
    return frame.iloc[np.sort(np.argsort(hashes, kind="stable")[:rows])]


def reference_rows(against: Sequence[Reference], res: Resources) -> "pd.DataFrame":
    """One frame in which each column comes from its own reference; the shorter ones end in nulls, which Evidently leaves out."""
    import pandas as pd

    config = res.config
    parts = [tidy(r.rows(), r.columns, texts(config)).reset_index(drop=True) for r in against]
    joined = pd.concat(parts, axis=1)
    words = texts(config)
    for name in joined:
        joined[name] = joined[name].astype(object if name in words else "float64")
        if name in words:
            joined[name] = joined[name].where(joined[name].notna(), None)
    return joined


def run(
    now: "pd.DataFrame",
    then: "pd.DataFrame",
    shown: Mapping[str, ColumnDrift],
    words: Sequence[str],
    title: str,
    about: Mapping[str, Any],
    ref: PartitionRef,
) -> Any:
    """Evidently's snapshot: every column's statistic with our threshold, its test and its plots."""
    silence_vendors()
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    names = list(shown)
    definition = DataDefinition(
        numerical_columns=[c for c in names if c not in words], categorical_columns=[c for c in names if c in words]
    )
    counts = {c: (float(then[c].notna().sum()), float(now[c].notna().sum())) for c in names}
    metrics = [
        ValueDrift(column=c, method=d.method, threshold=evidently_threshold(d, *counts[c])) for c, d in shown.items()
    ]
    sides = [
        Dataset.from_pandas(side[names].reset_index(drop=True), data_definition=definition) for side in (now, then)
    ]
    moment = ref.start.astimezone(UTC).replace(tzinfo=None)  # Evidently's times are naive
    with np.errstate(all="ignore"):  # correlations of constant columns, in plots only
        return Report(metrics, include_tests=True).run(*sides, timestamp=moment, metadata=dict(about), name=title)


def evidently_threshold(d: ColumnDrift, reference: float, current: float) -> float:
    """Our threshold as Evidently takes it: for `ks` the p-value that our distance has among so many rows.

    A column that does not count gets one that is never reached.
    """
    if d.method == "ks":
        return -1.0 if d.threshold is None else ks_p_value(min(d.threshold, 1.0), reference, current)
    return NEVER if d.threshold is None else d.threshold


def statuses(snapshot: Any) -> dict[str, bool]:
    """By column, whether Evidently says drift."""
    tests = snapshot.dict()["tests"]
    return {t["metric_config"]["params"]["column"]: "SUCCESS" not in str(t["status"]).upper() for t in tests}


def _of(part: int, whole: int) -> str:
    return f"all {whole:,} rows" if part == whole else f"a fixed sample of {part:,} of the {whole:,} rows"


def build(snapshot: Any, drift: Drift, title: str, notes: Sequence[str]) -> Any:
    """Evidently's snapshot as data, with our verdict above it and the share as a metric for the dashboard."""
    from evidently.core.metric_types import CountValue, SingleValue
    from evidently.legacy.renderers.html_widgets import CounterData, counter, table_data, text_widget
    from evidently.metrics import DriftedColumnsCount

    page = snapshot.to_snapshot_model()
    drifted = len({c.column for c in drift.columns if c.drifted})
    differs = [
        f"Differs from the verdict, because it is of a sample: {', '.join(drift.differs)}. The table here is the verdict."
    ]
    header = [
        counter(title=title, counters=[CounterData(verdict(drift), f"{drifted} drifted")]),
        text_widget(
            text="\n\n".join([*(differs if drift.differs else []), *([drift.note] if drift.note else []), *notes])
        ),
        table_data(
            title="Columns, what matters most first",
            column_names=[*rows(drift)[0]],
            data=[[*r.values()] for r in rows(drift)],
        )
        if drift.columns
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
    from evidently.core.report import Snapshot

    return Snapshot.load_model(page).get_html_str(as_iframe=False)


def add_figures(page: Any, metrics: Mapping[str, float | None], label: Mapping[str, str]) -> None:
    """Metrics for the dashboard's lines, as results of Evidently's own metrics of that name; `label` tells tasks apart."""
    import evidently.metrics

    for name, value in metrics.items():
        if name in FIGURES and value is not None:
            _put(page, getattr(evidently.metrics, FIGURES[name])(**label), value)


def add_scores(page: Any, shown: Mapping[str, ColumnDrift]) -> None:
    """Our scores for the dashboard's lines, without the threshold, which differs by partition and would begin another line."""
    from evidently.metrics import ValueDrift

    for name, c in shown.items():
        if c.score is not None:
            _put(page, ValueDrift(column=name, method=c.method, nbinsx=MARK), c.score)


def _put(page: Any, metric: Any, value: float) -> None:
    """A figure of ours as the result of one of Evidently's metrics, seen by the dashboard only."""
    from evidently.core.metric_types import SingleValue

    calculation = metric.to_calculation()
    found = SingleValue(display_name=calculation.display_name(), value=value, widget=[])
    found.set_metric_location(calculation.to_metric_config())
    page.metric_results[calculation.id] = found


def show_performance(ref: PartitionRef, data: Mapping[str, Any], res: Resources) -> dict[str, Any]:
    """Write a run of a partition's realised performance, and return `data` with where it is."""
    silence_vendors()
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
    told = f"{data['mature']:,} of {data['scored']:,} rows are mature, {data['pending']:,} wait, {data['never']:,} never will be."
    page = SnapshotModel(
        report=ReportModel(items=[]),
        name=f"{ref}: performance of version {data['version']}",
        timestamp=ref.start.astimezone(UTC).replace(tzinfo=None),
        metadata=about,
        tags=[],
        metric_results={},
        top_level_metrics=[],
        widgets=[
            text_widget(text=told),
            table_data(title=f"{ref}, version {data['version']}", column_names=head, data=table),
        ],
        tests_widgets=[],
    )
    add_figures(page, data["metrics"], task_label(res.config, REALISED))
    project, number = publish(page, res.settings.evidently_workspace, res.config, res.title, f"{ref.key} performance")
    return {**data, "project": project, "snapshot": number}


def _interval(bounds: Sequence[float | None] | None) -> str:
    return f"{_number(bounds[0])} to {_number(bounds[1])}" if bounds else ""


def verdict(drift: Drift) -> str:
    """The verdict in a few words: `Drift: 3 of 30 columns (temp, dewp, ...)`, or why there is none."""
    names = list(dict.fromkeys(c.column for c in drift.columns if c.drifted))
    told = f"{', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"
    share = f"{drift.share:.0%} of columns" + (f", {drift.threshold:.0%} needed" if drift.threshold else "")
    if drift.detected:
        return f"Drift: {share} ({told})"
    return f"No drift: {share} ({told})" if names else "No drift"


def rows(drift: Drift) -> list[dict[str, Any]]:
    """The columns as a table, what matters most first."""
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
