"""An Evidently workspace on disk: one project for each model, one run for each partition.

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

NAMESPACE = uuid.UUID("6f1d3a52-6f0e-5b0c-9a55-0f2b8c6f7a11")


def project_id(model: str) -> uuid.UUID:
    return uuid.uuid5(NAMESPACE, model)


def run_id(model: str, partition: str) -> uuid.UUID:
    return uuid.uuid5(project_id(model), partition)


def publish(run: Any, workspace: Path, model: str, partition: str, columns: Sequence[str]) -> tuple[str, str]:
    """Put a run (Evidently's `SnapshotModel`) into the model's project; returns the project's and the run's id.

    The project and its dashboard are made once and then left to people. Files are drafted outside
    the workspace and renamed into it: a server that watches the folder sees whole files only, and
    takes no notice of a rename inside it.
    """
    from evidently.sdk.models import ProjectModel
    from evidently.ui.storage.local.base import DASHBOARD_FILE_NAME, PROJECT_FILE_NAME, SNAPSHOTS_DIR_NAME, LocalState

    project, number = project_id(model), run_id(model, partition)
    once = (PROJECT_FILE_NAME, DASHBOARD_FILE_NAME)
    home = workspace / str(project)
    (home / SNAPSHOTS_DIR_NAME).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".evidently-", dir=workspace.parent) as drafts:
        state = LocalState(drafts)
        if not all((home / name).is_file() for name in once):
            state.write_project(ProjectModel(id=project, name=model, description=f"Drift of {model}, by partition"))
            state.write_dashboard(project, _dashboard(columns))
        state.write_snapshot(project, number, run)
        for name in (*once, f"{SNAPSHOTS_DIR_NAME}/{number}.json"):
            draft, final = Path(drafts) / str(project) / name, home / name
            if draft.is_file() and not (name in once and final.is_file()):
                draft.replace(final)
    return str(project), str(number)


def _dashboard(columns: Sequence[str]) -> Any:
    """The share of drifted columns and each column's score, over partitions."""
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric
    from evidently.sdk.panels import bar_plot_panel, line_plot_panel

    share = PanelMetric(legend="share", metric="DriftedColumnsCount", metric_labels={"value_type": "share"})
    scores = [PanelMetric(legend=c, metric="ValueDrift", metric_labels={"column": c}) for c in columns]
    panels = [
        bar_plot_panel("Share of drifted columns", [share]),
        line_plot_panel("Score of the predictions", [s for s in scores if s.legend == "prediction"]),
        line_plot_panel("Score of each column", scores),
    ]
    return DashboardModel(tabs=[DashboardTabModel(title="Drift", panels=[p.id for p in panels])], panels=panels)
