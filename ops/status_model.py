"""One model for `make status MODEL=flights`: champion, challenger, the grid of partitions and steps, and the latest events."""

from rich.console import Console

from ops.tables import grid_table
from tasks.contracts import FOR_PEOPLE, Fact, Stage
from tasks.contracts.escape import for_terminal
from tasks.contracts.words import decision_text, who
from tasks.reports.refusals import last_refusal
from tasks.reports.summary import grid
from tasks.resources import LiveResources
from tasks.source.extent import available_partitions

EVENTS = 8
"""Number of events shown, the newest ones."""


def print_model(res: LiveResources, console: Console) -> None:
    """Print champion, challenger, refusal, last verification, grid of steps and latest events of one model."""
    from tasks.backfill.verify import last_verification

    _print_versions(res, console)
    if refusal := last_refusal(res):
        console.print(f"  {for_terminal(refusal.headline)}")
        for rule in refusal.rules if not refusal.failed else ():
            console.print(f"    {for_terminal(rule)}")
        console.print(f"    to change: {for_terminal(refusal.advice)}", style="yellow")
    console.print(f"  lake: {for_terminal(last_verification(res))}")
    _print_grid(res, console)
    if lines := events(res)[-EVENTS:]:
        console.print("[bold]Latest events[/]")
    for line in lines:
        console.print(f"  {for_terminal(line)}")


def _print_versions(res: LiveResources, console: Console) -> None:
    name, champion = res.config.name, res.ledger.champion()
    if champion:
        line = f"version {champion.version} for partitions after {champion.as_of:%Y-%m-%d}, by {who(champion.by)}: {champion.reason}"
        console.print(f"  champion: {for_terminal(line)}")
    else:
        console.print(f"  no champion yet; `prefect deployment run train/{name}` trains one")
    if staged := res.ledger.challenger():
        from tasks.lifecycle.shadow import what_it_waits_for

        line = f"version {staged.version}, staged as of {staged.as_of:%Y-%m-%d}: {what_it_waits_for(staged, res)}"
        console.print(f"  challenger: {for_terminal(line)}; gate results: artifact `{name}-train`")


def _print_grid(res: LiveResources, console: Console) -> None:
    """Print the steps of the partitions up to the newest one that was begun, and how many the source has after it."""
    available, begun = available_partitions(res.model), {*res.lake.keys(Stage.RAW), *res.lake.failed(Stage.RAW)}
    newest = max(begun, default="")
    if keys := [key for key in sorted({*available, *begun}) if key <= newest]:
        console.print(grid_table(grid(res, [res.ref(key) for key in keys]), console.width))
    if later := [key for key in available if key > newest]:
        console.print(f"  the source has {count_text(later)}; none is processed")


def count_text(keys: list[str]) -> str:
    """Return number and range of partitions: `12 partitions, 2013-01 to 2013-12`."""
    return f"1 partition, {keys[0]}" if len(keys) == 1 else f"{len(keys)} partitions, {keys[0]} to {keys[-1]}"


def events(res: LiveResources) -> list[str]:
    """Return a line for each fact with its decision, each promotion and each measured effect, in as-of order."""
    decisions, changes = {d.fact_id: d for d in res.ledger.decisions()}, res.ledger.promotions()
    lines = [
        (
            f.as_of,
            0,
            f.payload.get("told", "the alias champion was moved by hand")
            if f.kind in FOR_PEOPLE
            else f"{fact_text(f)}: {decision_text(decisions.get(f.id), changes)}",
        )
        for f in res.ledger.facts()
    ]
    if effects := res.ledger.hindsights():
        from tasks.lifecycle.hindsight import verdict_text

        lines += [(h.as_of, h.sequence, verdict_text(h)) for h in effects]
    lines += [(p.as_of, p.sequence, f"version {p.version}: {p.action} by {who(p.by)}: {p.reason}") for p in changes]
    return [f"{as_of:%Y-%m-%d}  {text}" for as_of, _, text in sorted(lines)]


def fact_text(fact: Fact) -> str:
    """Return what a fact is about, such as `drift in 2013-07`."""
    return f"{fact.kind} in {fact.partition}" if fact.partition else fact.kind
