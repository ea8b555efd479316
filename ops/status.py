"""What runs, how each model is, and what happened last.

make status
"""

import os
import sys
import time
from collections.abc import Sequence
from functools import partial

from rich.console import Console
from rich.markup import escape

from configs.errors import ConfigError
from configs.load import model_names
from configs.settings import Settings, load_settings
from ops import stack
from ops.api import post
from ops.logs import server_errors, summary
from ops.programs import home_of
from ops.tables import grid_table
from ops.terminal import complain, terminal
from tasks.errors import EvergreenError
from tasks.orchestration.schedules import active_schedules, read_deployments
from tasks.reports.health import WORDS, Alert, alerts, schedule_alerts
from tasks.resources import Resources, open_resources

EVENTS = 8
"""Events that are shown of a model."""
AGAIN = 10
"""Seconds after which a schedule without a planned run is looked at again, before it is an alert."""
READ_LOG = "read .evergreen/logs/prefect.log; `make down up` starts the server again"


def servers(settings: Settings, console: Console) -> bool:
    """A line for each program; True when all of them answer."""
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
        console.print("  `make up` starts what is down.")
    return all(states.values())


def deployments(settings: Settings, console: Console) -> None:
    """Print the deployments that the server has, each with its next planned run, and an alert for a schedule without one."""
    ask = partial(post, settings)
    try:
        known = read_deployments(ask)
        schedules = active_schedules(known, ask)
        if any(s.is_missing() for s in schedules):  # a server that has just started plans its runs only now
            time.sleep(AGAIN)
            schedules = active_schedules(known, ask)
    except (OSError, ValueError) as error:
        print_alerts([Alert(3, f"Prefect does not tell its deployments: {error}", READ_LOG)], console)
        return
    for name, deployment in known.items():
        own = [s for s in schedules if s.deployment == name]
        when = ", ".join(f"{s.rule}, next run {s.next_run_local}" for s in own) or "by hand or event"
        paused = " (paused)" if deployment["paused"] else ""
        console.print(f"  {name:<20} {when}{paused}")
    print_alerts(schedule_alerts(schedules), console)


def logs(settings: Settings, console: Console) -> None:
    """Print an alert for each log of the stack that has errors since it was started, with the oldest of them."""
    found = summary(server_errors(home_of(settings)))
    print_alerts(
        [Alert(2, line, "read what comes after it; `make down up` begins new logs") for line in found], console
    )


def print_alerts(found: Sequence[Alert], console: Console) -> None:
    """Print alerts, each with what to do about it."""
    for need in found:
        colour = {3: "bold red", 2: "bold yellow", 1: "yellow"}[need.weight]
        action = f"\n    {escape(need.do)}" if need.do else ""
        console.print(f"  [{colour}]{WORDS[need.weight]}[/]: {escape(need.told)}{action}")


def model(res: Resources, console: Console) -> None:
    """Grid, champion and last events of one model."""
    from tasks.reports.summary import grid
    from tasks.source.extent import available

    name, ledger = res.config.name, res.ledger
    champion = ledger.champion()
    if champion:
        console.print(
            f"  champion: version {champion.version} for partitions after {champion.as_of:%Y-%m-%d}, by {champion.by}: {champion.reason}"
        )
    else:
        console.print(f"  no champion yet; `prefect deployment run train/{name}` trains one")
    if staged := ledger.challenger():
        console.print(
            f"  challenger: version {staged.version}, staged as of {staged.as_of:%Y-%m-%d}; see `{name}-train` for its gate"
        )
    print_alerts(alerts(res), console)
    keys = sorted({*available(res.model), *res.lake.keys("raw")})  # type: ignore[arg-type]
    if keys:
        console.print(grid_table(grid(res, [res.ref(key) for key in keys]), console.width))
    for line in events(res)[-EVENTS:]:
        console.print(f"  {line}")


def events(res: Resources) -> list[str]:
    """Facts, decisions, promotions and whether they helped, of a model in as-of order, a line each."""
    from tasks.contracts.words import decision_text
    from tasks.lifecycle.hindsight import verdict_text

    decisions = {d.fact_id: d for d in res.ledger.decisions()}
    found = [
        (f.as_of, 0, f"{f.kind} in {f.partition or 'MLflow'}, fact {f.id}: {decision_text(decisions.get(f.id))}")
        for f in res.ledger.facts()
    ]
    found += [(h.as_of, h.sequence, verdict_text(h)) for h in res.ledger.hindsights()]
    found += [
        (p.as_of, p.sequence, f"version {p.version}: {p.action} by {p.by}: {p.reason}") for p in res.ledger.promotions()
    ]
    return [f"{moment:%Y-%m-%d}  {text}" for moment, _, text in sorted(found)]


def model_or_error(name: str, console: Console) -> int:
    """A model's part of the page; one model's trouble does not hide the others. Returns the exit code that it asks for."""
    console.print(f"[bold]Model {name}[/]")
    try:
        model(open_resources(name), console)
    except (ConfigError, EvergreenError) as error:
        console.print(f"  error: {error}", style="red", markup=False)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def main() -> int:
    console = terminal()
    try:
        settings = load_settings()
        os.environ.update(stack.environment(settings))
        console.print("[bold]Servers[/]")
        up = servers(settings, console)
        logs(settings, console)
        if stack.running(settings).get("prefect"):
            console.print("[bold]Deployments[/]")
            deployments(settings, console)
        codes = [model_or_error(name, console) for name in model_names()]
    except ConfigError as error:
        return complain(error)
    return max([0 if up else 1, *codes])


if __name__ == "__main__":
    sys.exit(main())
