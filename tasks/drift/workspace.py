"""An Evidently workspace on disk: one project for each model, one run for each partition and one for its performance.

`evidently.ui.workspace.Workspace` reads every run of every project when it is opened, and fails
on one that is half-written. So this writes the same files through Evidently's own layer below it.
Ids are made from names: two processes agree on them without asking, and writing a partition again
replaces its run.
"""

import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.kinds import METRICS
from configs.schema import ModelConfig
from tasks.drift.columns import PREDICTION, methods

FIGURES = {"log_loss": "LogLoss", "roc_auc": "RocAuc", "accuracy": "Accuracy", "rmse": "RMSE"}
"""Our metrics that the dashboard shows, by Evidently's names."""
REALISED, ESTIMATED = "realised", "estimated"
"""Names of the task that tell the two lines of a metric apart."""
MARK = 1
"""`nbinsx` of the scores that are meant for the dashboard's lines: a parameter that nothing else of ours sets."""
NAMESPACE = uuid.UUID("6f1d3a52-6f0e-5b0c-9a55-0f2b8c6f7a11")


def project_id(model: str) -> uuid.UUID:
    return uuid.uuid5(NAMESPACE, model)


def run_id(model: str, partition: str) -> uuid.UUID:
    return uuid.uuid5(project_id(model), partition)


def publish(run: Any, workspace: Path, config: ModelConfig, model: str, name: str) -> tuple[str, str]:
    """Put a run (Evidently's `SnapshotModel`) into the project of a model, or of a variant of it; returns the project's and the run's id.

    The project and its dashboard are made once and then left to people. Files are drafted outside
    the workspace and renamed into it: a server that watches the folder sees whole files only, and
    takes no notice of a rename inside it.
    """
    from evidently.sdk.models import ProjectModel
    from evidently.ui.storage.local.base import DASHBOARD_FILE_NAME, PROJECT_FILE_NAME, SNAPSHOTS_DIR_NAME, LocalState

    project, number = project_id(model), run_id(model, name)
    once = (PROJECT_FILE_NAME, DASHBOARD_FILE_NAME)
    home = workspace / str(project)
    (home / SNAPSHOTS_DIR_NAME).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".evidently-", dir=workspace.parent) as drafts:
        state = LocalState(drafts)
        if not all((home / name).is_file() for name in once):
            state.write_project(ProjectModel(id=project, name=model, description=f"Drift of {model}, by partition"))
            state.write_dashboard(project, _dashboard(config))
        state.write_snapshot(project, number, run)
        for file in (*once, f"{SNAPSHOTS_DIR_NAME}/{number}.json"):
            draft, final = Path(drafts) / str(project) / file, home / file
            if draft.is_file() and not (file in once and final.is_file()):
                draft.replace(final)
    return str(project), str(number)


def _dashboard(config: ModelConfig) -> Any:
    """Share of drifted columns, score of the predictions, performance, and each column's score, over partitions."""
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric
    from evidently.sdk.panels import bar_plot_panel, line_plot_panel

    share = PanelMetric(legend="share", metric="DriftedColumnsCount", metric_labels={"value_type": "share"})
    scores = [
        PanelMetric(legend=c, metric="ValueDrift", metric_labels={"column": c, "nbinsx": str(MARK)})
        for c in methods(config)
    ]
    panels = [
        bar_plot_panel("Share of drifted columns", [share]),
        line_plot_panel("Score of the predictions", [s for s in scores if s.legend == PREDICTION]),
        line_plot_panel("Performance, realised and estimated", _figures(config)),
        line_plot_panel("Score of each column", scores),
    ]
    return DashboardModel(tabs=[DashboardTabModel(title="Drift", panels=[p.id for p in panels])], panels=panels)


def _figures(config: ModelConfig) -> Sequence[Any]:
    """Two lines a metric: as it was realised, from the runs of `assess`, and as it was estimated, from those of `watch`."""
    from evidently.sdk.models import PanelMetric

    return [
        PanelMetric(legend=f"{name}, {task}", metric=FIGURES[name], metric_labels=task_label(config, task))
        for name in METRICS[config.target.kind]
        if name in FIGURES
        for task in (REALISED, ESTIMATED)
    ]


def task_label(config: ModelConfig, task: str) -> dict[str, str]:
    """The parameter by which Evidently's metrics name a task."""
    return {"regression_name" if config.target.kind == "regression" else "classification_name": task}
