"""Print the state of the servers, the deployments and each model: `make status`."""

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from configs.errors import ConfigError
from configs.load import model_names
from configs.settings import ROOT, Settings, load_settings
from ops import stack
from ops.api import post
from ops.logs import server_errors, summary
from ops.programs import home_of
from ops.tables import grid_table
from ops.terminal import message, print_error, terminal
from tasks.contracts.escape import for_terminal
from tasks.errors import EvergreenError
from tasks.orchestration.schedules import active_schedules, read_deployments
from tasks.reports.health import Alert, Severity, alerts, schedule_alerts
from tasks.resources import LiveResources, open_resources
from tasks.storage.files import open_root
from tasks.storage.folders import exposed

EVENTS = 8
"""Number of events shown per model, the newest ones."""
RECHECK_SECONDS = 10
"""Seconds after which a schedule without a planned run is checked again before it becomes an alert."""
READ_LOG = "read .evergreen/logs/prefect.log; `make down up` starts the server again"


def servers(settings: Settings, console: Console) -> bool:
    """Print a line per program. Return whether all of them run and respond."""
    states = stack.running(settings)
    urls = {
        "prefect": settings.prefect_url,
        "mlflow": settings.mlflow_uri,
        "evidently": settings.evidently_url,
        "pages": settings.pages_url,
        "serving": settings.serving_url,
    }
    for name, up in states.items():
        console.print(f"  {name:<10} {'[green]up[/]  ' if up else '[red]down[/]'} {urls.get(name, '')}")
    if not all(states.values()):
        console.print("  `make up` starts the programs that are down.")
    return all(states.values())


def folders(settings: Settings, console: Console) -> None:
    """Print an alert for the home and the lake if other users of this machine can open them."""
    own = [home_of(settings), open_root(settings.lake, ROOT)]
    problems = [exposed(folder) for folder in own if isinstance(folder, Path)]
    print_alerts([Alert(Severity.WARNING, problem) for problem in problems if problem], console)


def deployments(settings: Settings, console: Console) -> None:
    """Print each deployment of the server with its next planned run, and an alert for each schedule without one."""
    ask = partial(post, settings)
    try:
        by_name = read_deployments(ask)
        schedules = active_schedules(by_name, ask)
        if any(s.is_missing() for s in schedules):  # a server that has just started plans its runs with a delay
            time.sleep(RECHECK_SECONDS)
            schedules = active_schedules(by_name, ask)
    except (OSError, ValueError) as error:
        print_alerts([Alert(Severity.ERROR, f"Prefect does not list its deployments: {error}", READ_LOG)], console)
        return
    for name, deployment in by_name.items():
        own = [s for s in schedules if s.deployment == name]
        when = ", ".join(f"{s.rule}, next run {s.next_run_local}" for s in own) or "by hand or event"
        paused = " (paused)" if deployment["paused"] else ""
        console.print(for_terminal(f"  {name:<20} {when}{paused}"))
    print_alerts(schedule_alerts(schedules), console)


def logs(settings: Settings, console: Console) -> None:
    """Print an alert for each log that has errors since the start of the stack, with the oldest error."""
    lines = summary(server_errors(home_of(settings)))
    action = "read the log from this line on; `make down up` starts new logs"
    print_alerts([Alert(Severity.ACTION, line, action) for line in lines], console)


def print_alerts(alerts: Sequence[Alert], console: Console) -> None:
    """Print alerts, each with its action."""
    colours = {Severity.ERROR: "bold red", Severity.ACTION: "bold yellow", Severity.WARNING: "yellow"}
    for alert in alerts:
        action = f"\n    {for_terminal(alert.action)}" if alert.action else ""
        console.print(f"  [{colours[alert.severity]}]{alert.severity}[/]: {for_terminal(alert.message)}{action}")


def model(res: LiveResources, console: Console) -> None:
    """Print champion, challenger, alerts, grid of steps and latest events of one model."""
    from tasks.backfill.verify import last_verification
    from tasks.contracts import Stage
    from tasks.reports.refusals import last_refusal
    from tasks.reports.summary import grid
    from tasks.source.extent import available_partitions, why_no_partition

    name, ledger = res.config.name, res.ledger
    champion = ledger.champion()
    if champion:
        line = f"version {champion.version} for partitions after {champion.as_of:%Y-%m-%d}, by {champion.by}: {champion.reason}"
        console.print(f"  champion: {for_terminal(line)}")
    else:
        console.print(f"  no champion yet; `prefect deployment run train/{name}` trains one")
    if staged := ledger.challenger():
        from tasks.lifecycle.shadow import what_it_waits_for

        line = f"version {staged.version}, staged as of {staged.as_of:%Y-%m-%d}: {what_it_waits_for(staged, res)}"
        console.print(f"  challenger: {for_terminal(line)}; gate results: artifact `{name}-train`")
    if refusal := last_refusal(res):
        console.print(f"  {for_terminal(refusal.headline)}")
        for rule in refusal.rules:
            console.print(f"    {for_terminal(rule)}")
    console.print(f"  lake: {for_terminal(last_verification(res))}")
    current, ingested, available = alerts(res), res.lake.keys(Stage.RAW), available_partitions(res.model)
    if ingested and not available:
        current.append(Alert(Severity.WARNING, why_no_partition(res.model)))
    print_alerts(current, console)
    keys = sorted({*available, *ingested})
    if available and not ingested:
        count = len(available)
        console.print(
            f"  the source has {count} partition{'s' * (count > 1)}, {available[0]} to {available[-1]}; none is processed"
        )
    elif keys:
        console.print(grid_table(grid(res, [res.ref(key) for key in keys]), console.width))
    for line in events(res)[-EVENTS:]:
        console.print(f"  {for_terminal(line)}")


def events(res: LiveResources) -> list[str]:
    """Return a line for each fact with its decision, each promotion and each measured effect, in as-of order."""
    from tasks.contracts import FOR_PEOPLE
    from tasks.contracts.words import decision_text
    from tasks.lifecycle.hindsight import verdict_text

    decisions, changes = {d.fact_id: d for d in res.ledger.decisions()}, res.ledger.promotions()
    lines = [
        (
            f.as_of,
            0,
            f"{f.payload.get('told', 'the alias champion was moved by hand')}; fact {f.id}"
            if f.kind in FOR_PEOPLE
            else f"{f.kind} in {f.partition}, fact {f.id}: {decision_text(decisions.get(f.id), changes)}",
        )
        for f in res.ledger.facts()
    ]
    lines += [(h.as_of, h.sequence, verdict_text(h)) for h in res.ledger.hindsights()]
    lines += [(p.as_of, p.sequence, f"version {p.version}: {p.action} by {p.by}: {p.reason}") for p in changes]
    return [f"{as_of:%Y-%m-%d}  {text}" for as_of, _, text in sorted(lines)]


def model_or_error(name: str, console: Console) -> int:
    """Print one model, or its error, so that the other models are still printed. Return the exit code."""
    console.print(f"[bold]Model {for_terminal(name)}[/]")
    try:
        model(open_resources(name), console)
    except (ConfigError, EvergreenError) as error:
        console.print(f"  error: {message(error)}", style="red")
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def main() -> int:
    """Print the state of servers, deployments and models. The exit status is that of the worst of them."""
    console = terminal()
    try:
        settings = load_settings()
        os.environ.update(stack.environment(settings))
        console.print("[bold]Servers[/]")
        up = servers(settings, console)
        logs(settings, console)
        folders(settings, console)
        if stack.running(settings).get("prefect"):
            console.print("[bold]Deployments[/]")
            deployments(settings, console)
        codes = [model_or_error(name, console) for name in model_names()]
    except ConfigError as error:
        return print_error(error)
    return max([0 if up else 1, *codes])


if __name__ == "__main__":
    sys.exit(main())
