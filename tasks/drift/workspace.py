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
from tasks.contracts.escape import for_script
from tasks.drift.columns import PREDICTION, methods
from tasks.storage.folders import make_folder

DASHBOARD_METRICS = {"log_loss": "LogLoss", "roc_auc": "RocAuc", "accuracy": "Accuracy", "rmse": "RMSE"}
"""Metrics that the dashboard shows, with Evidently's names."""
REALISED, ESTIMATED = "realised", "estimated"
"""Task names that distinguish the two lines of a metric."""
SCORE_NBINSX = 1
"""`nbinsx` of the scores for the dashboard's lines. It only marks them: no other metric here sets this parameter."""
NAMESPACE = uuid.UUID("6f1d3a52-6f0e-5b0c-9a55-0f2b8c6f7a11")


def project_id(model: str) -> uuid.UUID:
    """Return the id of a model's project, the same on every machine."""
    return uuid.uuid5(NAMESPACE, model)


def run_id(model: str, partition: str) -> uuid.UUID:
    """Return the id of a partition's run, so that a repeated check replaces the earlier one."""
    return uuid.uuid5(project_id(model), partition)


def publish(run: Any, workspace: Path, config: ModelConfig, model: str, name: str) -> tuple[str, str]:
    """Write a run into the project of a model or variant.

    The project and its dashboard are written only once, because people may edit them. Files are written outside the workspace and renamed
    into it. A server that watches the folder therefore sees only complete files, and does not react to a rename within it.

    Args:
        run: Evidently's `SnapshotModel`.
        workspace: The workspace's folder.
        config: The model's config.
        model: Name of the model or variant.
        name: Name of the run. A run of the same name is replaced.

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
            state.write_project(ProjectModel(id=project, name=model, description=f"Drift of {model}, by partition"))
            state.write_dashboard(project, _dashboard(config))
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


def _dashboard(config: ModelConfig) -> Any:
    """Share of drifted columns, score of the predictions, performance, and score of each column, by partition."""
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric
    from evidently.sdk.panels import bar_plot_panel, line_plot_panel

    share = PanelMetric(legend="share", metric="DriftedColumnsCount", metric_labels={"value_type": "share"})
    scores = [
        PanelMetric(legend=c, metric="ValueDrift", metric_labels={"column": for_script(c), "nbinsx": str(SCORE_NBINSX)})
        for c in methods(config)
    ]
    panels = [
        bar_plot_panel("Share of drifted columns", [share]),
        line_plot_panel("Score of the predictions", [s for s in scores if s.legend == PREDICTION]),
        line_plot_panel("Performance, realised and estimated", _performance_lines(config)),
        line_plot_panel("Score of each column", scores),
    ]
    return DashboardModel(tabs=[DashboardTabModel(title="Drift", panels=[p.id for p in panels])], panels=panels)


def _performance_lines(config: ModelConfig) -> Sequence[Any]:
    """Two lines for each metric: realised, from the runs of `assess`, and estimated, from those of `watch`."""
    from evidently.sdk.models import PanelMetric

    return [
        PanelMetric(legend=f"{name}, {task}", metric=DASHBOARD_METRICS[name], metric_labels=task_label(config, task))
        for name in METRICS[config.target.kind]
        if name in DASHBOARD_METRICS
        for task in (REALISED, ESTIMATED)
    ]


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
