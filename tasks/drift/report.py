"""Evidently reports: a page and a workspace run that show the drift verdict, with the same statistics and thresholds.

Evidently scores a sample; the verdict uses all rows. If the two differ for a column, the page states it first, and the verdict is valid.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tasks.contracts import Drift, PartitionRef, Promotion, Stage
from tasks.contracts.escape import for_markdown
from tasks.contracts.links import run_url
from tasks.contracts.words import number
from tasks.drift.columns import cast_columns, methods, text_columns
from tasks.drift.evidently_run import current_rows, drift_by_column, reference_rows, run_evidently, sample_by_key
from tasks.drift.reference import Reference
from tasks.drift.workspace import ESTIMATED, add_metrics, add_scores, escape_page, most_important, publish, task_label
from tasks.resources import Resources
from tasks.storage.files import replacing


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
    numbers = set(config.personal) - set(
        text_columns(config)
    )  # Evidently plots their distribution, with single values at its ends
    shown = {
        c: d for c, d in scored.items() if c not in numbers and current[c].notna().any() and reference[c].notna().any()
    }
    title = f"{ref} compared with version {champion.version}"
    about = {"model": ref.model, "partition": ref.key, "version": champion.version, "as_of": ref.as_of.isoformat()}
    snapshot = run_evidently(current, reference, shown, text_columns(config), title, about, ref)
    drifted = drift_by_column(snapshot)
    drift = replace(drift, differs=tuple(sorted(c for c in shown if drifted[c] != shown[c].drifted)))
    notes = [
        f"Evidently's figures use {_sample_text(len(sampled), len(rows))} of the partition and up to "
        f"{config.monitoring.sample_rows:,} rows of each reference. The verdict uses all rows.",
        *(for_markdown(f"{name}: compared with {description}.") for name, description in drift.references.items()),
        *(for_markdown(f"{k}: {v}") for k, v in about.items()),
        *(f"{name}: {url}" for name, url in page_links(champion, res).items() if url),
    ]
    page = build_page(snapshot, drift, title, notes)
    estimated = res.lake.record(Stage.ESTIMATES, ref.key)
    add_metrics(page, estimated.data["metrics"] if estimated else {}, task_label(config, ESTIMATED))
    add_scores(page, shown)
    html = res.lake.path(Stage.MONITORING, ref.key, "html")
    with replacing(html) as draft:
        draft.write_text(as_html(page), encoding="utf-8")
    workspace, top = res.settings.evidently_workspace, most_important(shown)
    project, run_number = publish(page, workspace, config, res.title, ref.key, top)
    return replace(drift, report=str(html.relative_to(res.lake.root)), project=project, snapshot=run_number)


def page_links(champion: Promotion, res: Resources) -> dict[str, str]:
    """Addresses of the version in MLflow and of the run in Prefect, empty outside of a run."""
    run = run_url(res.settings.prefect_ui, res.flow_run) if res.flow_run else ""
    return {"MLflow": res.registry.version_url(champion.version), "Prefect": run}


def _sample_text(sampled: int, rows: int) -> str:
    return f"all {rows:,} rows" if sampled == rows else f"a fixed sample of {sampled:,} of the {rows:,} rows"


def build_page(snapshot: Any, drift: Drift, title: str, notes: Sequence[str]) -> Any:
    """Convert Evidently's snapshot to its data model, with the verdict above it and the drifted share as a metric for the dashboard.

    Args:
        snapshot: From `run_evidently`.
        drift: The verdict.
        title: Title of the page.
        notes: Paragraphs of Markdown, shown below the verdict.
    """
    from evidently.core.metric_types import CountValue, SingleValue
    from evidently.legacy.renderers.html_widgets import CounterData, counter, table_data, text_widget
    from evidently.metrics import DriftedColumnsCount

    page = snapshot.to_snapshot_model()
    drifted = len({c.column for c in drift.columns if c.drifted})
    differs = (
        f"Differs from the verdict, because Evidently uses a sample: {for_markdown(', '.join(drift.differs))}. "
        f"The table here shows the verdict."
    )
    table = drift_table(drift)
    header = [
        counter(title=title, counters=[CounterData(drift_verdict(drift), f"{drifted} drifted")]),
        text_widget(
            text="\n\n".join(
                [*([differs] if drift.differs else []), *([for_markdown(drift.note)] if drift.note else []), *notes]
            )
        ),
        table_data(
            title="Columns, those that drifted first", column_names=[*table[0]], data=[[*r.values()] for r in table]
        )
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
    """Return the page of an Evidently run as a complete HTML document. Evidently writes its texts into a script."""
    from evidently.core.report import Snapshot

    return Snapshot.load_model(escape_page(page)).get_html_str(as_iframe=False)


def drift_verdict(drift: Drift) -> str:
    """The verdict in a few words, such as `Drift: 10% of columns (temp, dewp, ...)`."""
    columns = list(dict.fromkeys(c.column for c in drift.columns if c.drifted))
    names = f"{', '.join(columns[:4])}{' ...' if len(columns) > 4 else ''}"
    share = f"{drift.share:.0%} of columns" + (f", {drift.threshold:.0%} needed" if drift.threshold else "")
    if drift.detected:
        return f"Drift: {share} ({names})"
    return f"No drift: {share} ({names})" if columns else "No drift"


def drift_table(drift: Drift) -> list[dict[str, Any]]:
    """The columns as a table, in the order of the verdict."""
    return [
        {
            "column": c.column,
            "method": c.method,
            "score": number(c.score, 4),
            "threshold": number(c.threshold, 4),
            "p-value": number(c.p_value, 4),
            "importance": "" if c.importance is None else f"{c.importance:.0%}",
            "verdict": "drifted" if c.drifted else c.note and "does not count",
            "against": c.reference,
        }
        for c in drift.columns
    ]
