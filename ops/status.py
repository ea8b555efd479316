"""What runs, how each model is, and what happened last.

make status
"""

import json
import os
import sys
import urllib.request

from rich.console import Console
from rich.markup import escape

from configs.errors import ConfigError
from configs.load import model_names
from configs.settings import Settings, load_settings
from ops import stack
from ops.tables import grid_table
from ops.terminal import complain, terminal
from tasks.errors import EvergreenError
from tasks.resources import Resources, open_resources

EVENTS = 8
"""Events that are shown of a model."""


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
    """The deployments that the server knows, with their schedules."""
    request = urllib.request.Request(
        f"{settings.prefect_url}/api/deployments/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    flows = urllib.request.Request(
        f"{settings.prefect_url}/api/flows/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as found, urllib.request.urlopen(flows, timeout=10) as named:
        names = {flow["id"]: flow["name"] for flow in json.load(named)}
        for item in sorted(json.load(found), key=lambda d: (d["name"], names[d["flow_id"]])):
            when = ", ".join(s["schedule"].get("cron", "scheduled") for s in item["schedules"] if s["active"])
            paused = " (paused)" if item["paused"] else ""
            console.print(f"  {names[item['flow_id']] + '/' + item['name']:<20} {when or 'by hand or event'}{paused}")


def model(res: Resources, console: Console) -> None:
    """Grid, champion and last events of one model."""
    from tasks.health import WORDS, needs
    from tasks.source.extent import available
    from tasks.summary import grid

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
    for need in needs(res):
        colour = {3: "bold red", 2: "bold yellow", 1: "yellow"}[need.weight]
        console.print(
            f"  [{colour}]{WORDS[need.weight]}[/]: {escape(need.told)}"
            + (f"\n    {escape(need.do)}" if need.do else "")
        )
    keys = sorted({*available(res.model), *res.lake.keys("raw")})  # type: ignore[arg-type]
    if keys:
        console.print(grid_table(grid(res, [res.ref(key) for key in keys]), console.width))
    for line in events(res)[-EVENTS:]:
        console.print(f"  {line}")


def events(res: Resources) -> list[str]:
    """Facts, decisions, promotions and whether they helped, of a model in as-of order, a line each."""
    from tasks.hindsight import told as in_hindsight
    from tasks.words import told

    decisions = {d.fact_id: d for d in res.ledger.decisions()}
    found = [
        (f.as_of, 0, f"{f.kind} in {f.partition or 'MLflow'}, fact {f.id}: {told(decisions.get(f.id))}")
        for f in res.ledger.facts()
    ]
    found += [(h.as_of, h.sequence, in_hindsight(h)) for h in res.ledger.hindsights()]
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
        if stack.running(settings).get("prefect"):
            console.print("[bold]Deployments[/]")
            deployments(settings, console)
        codes = [model_or_error(name, console) for name in model_names()]
    except ConfigError as error:
        return complain(error)
    return max([0 if up else 1, *codes])


if __name__ == "__main__":
    sys.exit(main())
