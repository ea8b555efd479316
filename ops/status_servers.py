"""Servers, logs, folders and schedules for `make status`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.settings import ROOT, Settings
from ops import supervision
from ops.api import post
from ops.logs import server_errors, summary
from ops.programs import home_of
from tasks.contracts.escape import for_terminal
from tasks.orchestration.schedules import PLANNING, Schedule, active_schedules, read_deployments
from tasks.reports.health import Alert, Severity, schedule_alerts
from tasks.storage.files import open_root
from tasks.storage.folders import exposed

PLURAL = {Severity.ERROR: "errors", Severity.ACTION: "actions required", Severity.WARNING: "warnings"}
READ_LOG = "read .evergreen/logs/prefect.log; `make down up` starts the server again"


def server_alerts(states: Mapping[str, bool], settings: Settings) -> list[Alert]:
    """Return alerts of programs that are down, of logs with errors, and of folders that other users of this machine can open."""
    down = [name for name, up in states.items() if not up]
    names = f"{', '.join(down[:-1])} and {down[-1]} are" if down[1:] else f"{''.join(down)} is"
    alerts = [Alert(Severity.ERROR, f"{names} down", "`make up` starts the programs that are down.")] if down else []
    action = "read the log from this line on; `make down up` starts new logs"
    alerts += [Alert(Severity.ACTION, line, action) for line in summary(server_errors(home_of(settings)))]
    own = [home_of(settings), open_root(settings.lake, ROOT)]
    problems = [exposed(folder) for folder in own if isinstance(folder, Path)]
    return alerts + [Alert(Severity.WARNING, problem) for problem in problems if problem]


def print_servers(states: Mapping[str, bool], settings: Settings, console: Console) -> None:
    """Print a line per program."""
    urls = {
        "prefect": settings.prefect_url,
        "mlflow": settings.mlflow_uri,
        "evidently": settings.evidently_url,
        "pages": settings.pages_url,
        "serving": settings.serving_url,
        "metrics": settings.metrics_url,
    }
    console.print("[bold]Servers[/]")
    for name, up in states.items():
        console.print(f"  {name:<10} {'[green]up[/]  ' if up else '[red]down[/]'} {urls.get(name, '')}".rstrip())


@dataclass(frozen=True)
class Deployments:
    """The deployments of Prefect's server, by flow and name, as its API describes them.

    Attributes:
        by_name: The deployments; empty if Prefect does not list them.
        schedules: The active ones.
        alerts: Of schedules that start no run, or of Prefect.
    """

    by_name: Mapping[str, Any] = field(default_factory=dict)
    schedules: tuple[Schedule, ...] = ()
    alerts: tuple[Alert, ...] = ()

    def schedules_of(self, model: str) -> list[Schedule]:
        """Return the active schedules of a model."""
        return [s for s in self.schedules if s.model == model]

    def print(self, model: str, console: Console) -> None:
        """Print a model's deployments with their next runs; with an empty name the scheduled ones for all models."""
        scheduled = {s.deployment for s in self.schedules}
        own = {n: d for n, d in self.by_name.items() if d["parameters"].get("model", "") == model}
        own = own if model else {name: deployment for name, deployment in own.items() if name in scheduled}
        if own:
            console.print("[bold]Deployments[/]" if model else "[bold]Schedules for all models[/]")
        for name, deployment in own.items():
            runs = (f"{s.rule}, next run {s.next_run_local}" for s in self.schedules if s.deployment == name)
            when = ", ".join(runs) or "by hand or event"
            console.print(for_terminal(f"  {name:<20} {when}{' (paused)' if deployment['paused'] else ''}"))


def read_schedules(settings: Settings) -> Deployments:
    """Read deployments and schedules from Prefect's server.

    A server that has started only minutes ago has not planned all runs yet. So a schedule without one is no alert then.
    """
    ask = partial(post, settings)
    try:
        by_name = read_deployments(ask)
        schedules = tuple(active_schedules(by_name, ask))
    except (OSError, ValueError) as error:
        problem = f"Prefect does not list its deployments: {error}"
        return Deployments(alerts=(Alert(Severity.ERROR, problem, READ_LOG),))
    planning = _has_just_started(settings)
    alerts = schedule_alerts(s for s in schedules if not (planning and s.is_missing()))
    return Deployments(by_name, schedules, tuple(alerts))


def _has_just_started(settings: Settings) -> bool:
    """Return whether the stack has started Prefect's server only minutes ago, so it has not planned all runs yet."""
    state = supervision.states(home_of(settings)).get("prefect")
    return state is not None and time.time() - state["start"] < PLANNING.total_seconds()


def print_alerts(alerts: Sequence[tuple[str, Alert]], console: Console) -> None:
    """Print alerts, most severe first, each with its model and its action."""
    colours = {Severity.ERROR: "bold red", Severity.ACTION: "bold yellow", Severity.WARNING: "yellow"}
    order = list(Severity)
    counts = {severity: sum(alert.severity == severity for _, alert in alerts) for severity in Severity}
    texts = [f"{n} {severity if n == 1 else PLURAL[severity]}" for severity, n in counts.items() if n]
    console.print(f"[bold]Alerts[/]: {', '.join(texts) or 'none'}")
    for name, alert in sorted(alerts, key=lambda item: order.index(item[1].severity)):
        model = f", {for_terminal(name)}" if name else ""
        action = f"\n    {for_terminal(alert.action)}" if alert.action else ""
        console.print(f"  [{colours[alert.severity]}]{alert.severity}[/]{model}: {for_terminal(alert.message)}{action}")
