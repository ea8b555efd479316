"""Evidently report of a partition's realised performance: a workspace run with its metrics beside the estimates."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from configs.settings import disable_telemetry
from tasks.contracts import PartitionRef
from tasks.contracts.words import number
from tasks.drift.workspace import COMPARED, REALISED, add_metrics, add_skill, publish, task_label
from tasks.resources import Resources


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
            number(value, 4),
            _interval(data["intervals"].get(name)),
            number(estimated["metrics"].get(name), 4),
            number(estimated["errors"].get(name), 4),
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
    add_metrics(page, estimated["metrics"], task_label(res.config, COMPARED))
    add_skill(page, data.get("skill"))
    project, run_number = publish(
        page, res.settings.evidently_workspace, res.config, res.title, f"{ref.key} performance"
    )
    return {**data, "project": project, "snapshot": run_number}


def _interval(bounds: Sequence[float | None] | None) -> str:
    return f"{number(bounds[0], 4)} to {number(bounds[1], 4)}" if bounds else ""
