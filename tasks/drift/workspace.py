"""An Evidently workspace on disk: one project for each model, one run for each partition and one for its performance.

`evidently.ui.workspace.Workspace` reads every run of every project when it is opened, and fails if one is half-written. This module
therefore writes the same files through the storage layer that Evidently uses below it. Ids are computed from names, so that two processes
get the same ids, and writing a partition again replaces its run.
"""

import json
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.kinds import METRICS
from configs.schema import ModelConfig
from tasks.contracts import ColumnDrift
from tasks.contracts.escape import for_script, one_line
from tasks.drift.columns import PREDICTION, methods
from tasks.storage.folders import make_folder

DASHBOARD_METRICS = {"log_loss": "LogLoss", "roc_auc": "RocAuc", "accuracy": "Accuracy", "rmse": "RMSE"}
"""Metrics that the dashboard shows, with Evidently's names."""
REALISED, ESTIMATED, COMPARED = "realised", "estimated", "estimated before"
"""Task names that distinguish the lines of a metric.

A line has gaps at the runs without its value. So the run with the realised value has the earlier estimate too, as `COMPARED`.
"""
SCORE_NBINSX, THRESHOLD_NBINSX = 1, 2
"""`nbinsx` of scores and thresholds for the dashboard's lines. It only marks them: no other metric here sets this parameter."""
SKILL = "skill"
"""Name of the column as whose mean the skill is stored, since Evidently has no such metric."""
SHOWN_COLUMNS = 6
"""Columns with a panel of their own: the prediction and the most important features."""
NAMESPACE = uuid.UUID("6f1d3a52-6f0e-5b0c-9a55-0f2b8c6f7a11")


def project_id(model: str) -> uuid.UUID:
    """Return the id of a model's project, the same on every machine."""
    return uuid.uuid5(NAMESPACE, model)


def run_id(model: str, partition: str) -> uuid.UUID:
    """Return the id of a partition's run, so that a repeated check replaces the earlier one."""
    return uuid.uuid5(project_id(model), partition)


def publish(
    run: Any, workspace: Path, config: ModelConfig, model: str, name: str, columns: Sequence[str] = ()
) -> tuple[str, str]:
    """Write a run into the project of a model or variant.

    The project and its dashboard are written only once, because people may edit them. Files are written outside the workspace and renamed
    into it. A server that watches the folder therefore sees only complete files, and does not react to a rename within it.

    Args:
        run: Evidently's `SnapshotModel`.
        workspace: The workspace's folder.
        config: The model's config.
        model: Name of the model or variant.
        name: Name of the run. A run of the same name is replaced.
        columns: The columns to show on the dashboard, the most important first. By default in the order of the config.

    Returns:
        The ids of the project and of the run.
    """
    from evidently.sdk.models import ProjectModel
    from evidently.ui.storage.local.base import DASHBOARD_FILE_NAME, PROJECT_FILE_NAME, SNAPSHOTS_DIR_NAME, LocalState

    project, run_number = project_id(model), run_id(model, name)
    written_once = (PROJECT_FILE_NAME, DASHBOARD_FILE_NAME)
    folder = workspace / str(project)
    make_folder(folder / SNAPSHOTS_DIR_NAME)
    with tempfile.TemporaryDirectory(prefix=".evidently-", dir=workspace.parent) as drafts:
        state = LocalState(drafts)
        if not all((folder / file).is_file() for file in written_once):
            about = f"{one_line(config.description.strip())} Drift and performance by partition."
            state.write_project(ProjectModel(id=project, name=model, description=about))
            state.write_dashboard(project, _dashboard(config, (columns or tuple(methods(config)))[:SHOWN_COLUMNS]))
        state.write_snapshot(project, run_number, escape_page(run))
        for file in (*written_once, f"{SNAPSHOTS_DIR_NAME}/{run_number}.json"):
            draft, final = Path(drafts) / str(project) / file, folder / file
            if draft.is_file() and not (file in written_once and final.is_file()):
                draft.replace(final)
    return str(project), str(run_number)


def escape_page(page: Any) -> Any:
    """Return a copy of Evidently's `SnapshotModel` whose texts can be written into a script of an HTML page.

    Evidently does so without escaping them: here, and in its server, which reads a stored run and offers it as an HTML file.
    """
    from evidently.core.serialization import SnapshotModel
    from evidently.legacy.utils import NumpyEncoder

    text = json.dumps(page.dict(), cls=NumpyEncoder)
    return page if for_script(text) == text else SnapshotModel.parse_obj(json.loads(for_script(text)))


def _dashboard(config: ModelConfig, columns: Sequence[str]) -> Any:
    """One panel for each metric, since each has its own scale: share of drifted columns, performance, skill, and scores of columns."""
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric
    from evidently.sdk.panels import bar_plot_panel, line_plot_panel

    share = PanelMetric(legend="share", metric="DriftedColumnsCount", metric_labels={"value_type": "share"})
    skill = PanelMetric(legend="realised", metric="MeanValue", metric_labels={"column": SKILL})
    names = [name for name in METRICS[config.target.kind] if name in DASHBOARD_METRICS]
    names.sort(key=lambda name: name != config.target.eval_loss)
    panels = [
        bar_plot_panel("Share of drifted columns", [share], "from 0 to 1, of the columns that are checked"),
        *(line_plot_panel(*_performance_panel(name, config), size="half") for name in names),
        line_plot_panel(*_estimate_panel(names[0], config), size="half"),
        line_plot_panel("skill", [skill], "1 minus the loss as a share of that of the partition's base rate", "half"),
        *(line_plot_panel(*_column_panel(column), size="half") for column in columns),
    ]
    return DashboardModel(tabs=[DashboardTabModel(title="Drift", panels=[p.id for p in panels])], panels=panels)


def _performance_panel(name: str, config: ModelConfig) -> tuple[str, list[Any], str]:
    """Title, lines and subtitle of a metric of the assessed partitions: realised, and as estimated before."""
    lines = [_performance_line(name, task, config) for task in (REALISED, COMPARED)]
    return name.replace("_", " "), lines, "of the partitions whose labels are known"


def _estimate_panel(name: str, config: ModelConfig) -> tuple[str, list[Any], str]:
    """Title, line and subtitle of a metric as estimated, of all partitions, also of those without labels."""
    line = _performance_line(name, ESTIMATED, config)
    return f"{name.replace('_', ' ')}, estimated", [line], "before the labels are known"


def _performance_line(name: str, task: str, config: ModelConfig) -> Any:
    from evidently.sdk.models import PanelMetric

    return PanelMetric(legend=task, metric=DASHBOARD_METRICS[name], metric_labels=task_label(config, task))


def _column_panel(column: str) -> tuple[str, list[Any], str]:
    """Title, lines and subtitle of a column's drift: its score and the threshold that the score must exceed."""
    from evidently.sdk.models import PanelMetric

    lines = [
        PanelMetric(
            legend=legend, metric="ValueDrift", metric_labels={"column": for_script(column), "nbinsx": str(mark)}
        )
        for legend, mark in (("score", SCORE_NBINSX), ("threshold", THRESHOLD_NBINSX))
    ]
    return f"drift of {for_script(column)}", lines, "drifted where the score is above the threshold"


def task_label(config: ModelConfig, task: str) -> dict[str, str]:
    """The parameter with which Evidently's metrics name a task."""
    return {"regression_name" if config.target.kind == "regression" else "classification_name": task}


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
    """Add scores and thresholds for the dashboard's lines.

    The thresholds are values of their own: as a parameter of the score, which differs by partition, they would start a new line each.
    """
    from evidently.metrics import ValueDrift

    for name, c in shown.items():
        for mark, value in ((SCORE_NBINSX, c.score), (THRESHOLD_NBINSX, c.threshold)):
            if value is not None:
                _add_result(page, ValueDrift(column=name, method=c.method, nbinsx=mark), value)


def add_skill(page: Any, skill: float | None) -> None:
    """Add the realised skill for the dashboard's line."""
    from evidently.metrics import MeanValue

    if skill is not None:
        _add_result(page, MeanValue(column=SKILL), skill)


def most_important(shown: Mapping[str, ColumnDrift]) -> list[str]:
    """Return the prediction, then the columns by their importance in the champion, the most important first."""
    return sorted(shown, key=lambda name: (name != PREDICTION, -(shown[name].importance or 0.0)))


def _add_result(page: Any, metric: Any, value: float) -> None:
    """Add a value as the result of one of Evidently's metrics. Only the dashboard shows it."""
    from evidently.core.metric_types import SingleValue

    calculation = metric.to_calculation()
    result = SingleValue(display_name=calculation.display_name(), value=value, widget=[])
    result.set_metric_location(calculation.to_metric_config())
    page.metric_results[calculation.id] = result
