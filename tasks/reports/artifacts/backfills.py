"""What a `backfill` leaves: its plan, how far it is, and what came of it."""

import base64
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from prefect.artifacts import create_table_artifact

from tasks.backfill.plan import RUNS
from tasks.contracts import Outcome, Plan
from tasks.contracts.words import duration_text
from tasks.orchestration.run_names import page_key
from tasks.reports.artifacts.page import publish_page
from tasks.reports.card.plots import grid_plot
from tasks.reports.summary import grid
from tasks.resources import Resources

LETTER = {"make": "make", "again": "again", "keep": "·", "leave": "left", "wait": "…"}
LEGEND = "fresh: made of what is there now; missing: to be made; a dot: not due, or without a champion"
COLOUR = {"keep": "fresh", "leave": "left", "wait": "waiting"}
"""What a plan does to a stage, by the states of `grid_plot` where it has another name."""
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.+-]+")
MOST_REASONS = 30
LONGEST = 60
"""Partitions that a page shows as a table; a picture shows them all."""


def publish_plan(res: Resources, plan: Plan, dry: bool) -> str:
    """The plan as a page: what will be done, why, and how to submit it; returns the headline."""
    line = plan_headline(res.title, plan)
    how = f"prefect deployment run backfill/manual -p model={res.config.name} -p plan={plan.digest}"
    body = ["", f"Submit exactly this plan: `{how}`"] if dry and plan.todo else []
    if plan.todo:
        body += ["", picture(f"{res.title}: what will be done", plan, COLOUR)]
    body += ["", *_reasons(plan), "", *plan_table(plan)]
    return publish_page(res, "backfill-plan", line, body)


def plan_headline(title: str, plan: Plan) -> str:
    """How much a plan is, in a line."""
    count, rows = len(plan.todo), sum(plan.rows[key] or 0 for key in plan.todo)
    steps = sum(c.action in RUNS for key in plan.todo for c in plan.cells[key])
    if not count:
        return f"{title}: plan {plan.digest}: nothing to do for {len(plan.cells)} partitions with mode={plan.request.mode}."
    known = f", {rows:,} rows as last ingested" if rows else ""
    took = (
        f"about {duration_text(plan.seconds)} of work on one core"
        if plan.seconds is not None
        else "no earlier run tells how long"
    )
    return f"{title}: plan {plan.digest}: {steps} steps of {count} of {len(plan.cells)} partitions{known}; {took}."


def _reasons(plan: Plan) -> list[str]:
    """Why, the most frequent first; reasons that differ in a partition's name or moment only are told once, by the first of them."""
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for key, cells in plan.cells.items():
        for cell in cells:
            if cell.why:
                alike = MOMENT.sub("", cell.why.replace(key, ""))
                found.setdefault((cell.verb, cell.action, alike), []).append((key, cell.why))
    lines = sorted(found.items(), key=lambda item: -len(item[1]))[:MOST_REASONS]
    return [
        f"- {LETTER[action].replace('…', 'wait')} {verb} of {_named([key for key, _ in told])}: {told[0][1]}"
        for (verb, action, _), told in lines
    ]


def _named(keys: Sequence[str]) -> str:
    return ", ".join(keys) if len(keys) < 4 else f"{len(keys)} partitions"


def plan_table(plan: Plan) -> list[str]:
    """Partition by stage, as markdown: `make`, `again`, `·` fresh, `left` by this mode, `…` waits."""
    verbs = [c.verb for c in next(iter(plan.cells.values()), ())]
    head = ["| partition | rows | " + " | ".join(verbs) + " |", "|---" * (len(verbs) + 2) + "|"]
    lines = [
        f"| {key} | {'' if plan.rows[key] is None else format(plan.rows[key], ',')} | {' | '.join(LETTER[c.action] for c in cells)} |"
        for key, cells in list(plan.cells.items())[:LONGEST]
    ]
    more = len(plan.cells) - LONGEST
    return [*head, *lines, *([f"\n{more} more partitions are in the plan's file."] if more > 0 else [])]


def picture(title: str, plan: Plan, named: Mapping[str, str]) -> str:
    """The plan's cells as a picture in a page."""
    verbs = [c.verb for c in next(iter(plan.cells.values()))]
    rows = {key: [named.get(c.action, c.action) for c in plan.cells[key]] for key in sorted(plan.cells)}
    return _image(title, verbs, rows)


def _image(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    data = base64.b64encode(grid_plot(title, columns, rows)).decode()
    return f"![{title}](data:image/png;base64,{data})"


def publish_backfill(res: Resources, plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """The page and the grid of a `backfill` run; returns the headline."""
    if not plan.todo:
        return _publish_nothing(res, plan)
    counts = Counter(map(ended_as, outcomes))
    made = counts["made"]
    line = f"{res.title}: {made} of {len(outcomes)} partitions brought up to date, {counts['failed']} failed, {counts['blocked']} blocked"
    if counts["untouched"] or counts["half done"]:
        half = f", {counts['half done']} half done" if counts["half done"] else ""
        line += f"{half}, {counts['untouched']} not begun; submit it again with mode=missing to go on"
    elif counts["failed"] or counts["blocked"]:
        line += "; mode=failed takes up just those"
    notes = [f"- {o.partition} failed: {o.failed}" for o in outcomes if o.failed]
    notes += [f"- {o.partition} failed at {v}: {w}" for o in outcomes for v, s, w in o.passed if s == "failed"]
    notes += [f"- {o.partition} blocked: {o.blocked}" for o in outcomes if o.blocked]
    notes += [f"- {o.partition}: {v} waits: {w}" for o in outcomes for v, s, w in o.passed if s == "waiting"][:LONGEST]
    refs = [res.ref(o.partition) for o in sorted(outcomes, key=lambda o: o.partition)]
    rows = grid(res, refs)
    create_table_artifact(rows, key=page_key(res.slug, "grid"), description=grid_line(res.title, rows))
    return publish_page(res, "backfill", f"{line}.", [grid_picture(res.title, rows), "", *notes])


def _publish_nothing(res: Resources, plan: Plan) -> str:
    """The page and the grid of a plan that has nothing to do, without another look at the partitions."""
    words = {"keep": "fresh", "leave": "left", "wait": "."}
    rows = [{"partition": key, **{c.verb: words[c.action] for c in cells}} for key, cells in sorted(plan.cells.items())]
    left = sum(any(c.action == "leave" for c in cells) for cells in plan.cells.values())
    line = f"{res.title}: nothing to do for {len(rows)} partitions with mode={plan.request.mode}"
    line += f"; {left} of them have stages that another mode would take up" if left else ""
    create_table_artifact(rows, key=page_key(res.slug, "grid"), description=grid_line(res.title, rows))
    return publish_page(res, "backfill", f"{line}.", _reasons(plan))


def grid_line(title: str, rows: Sequence[Mapping[str, str]]) -> str:
    """How many partitions are as they should be, and how to read the grid."""
    done = sum({v for name, v in row.items() if name != "partition"} <= {"fresh", "."} for row in rows)
    return f"{title}: {done} of {len(rows)} partitions are up to date in every stage. {LEGEND}"


def ended_as(outcome: Outcome) -> str:
    """What became of a partition, in a word."""
    if outcome.failed or any(state == "failed" for _, state, _ in outcome.passed):
        return "failed"
    if outcome.untouched:
        return "half done" if outcome.passed else "untouched"
    if outcome.blocked:
        return "blocked"
    return "made" if any(state == "made" for _, state, _ in outcome.passed) else "kept"


def grid_picture(title: str, rows: Sequence[Mapping[str, str]]) -> str:
    """The grid as a picture in a page."""
    words = {".": "waiting", "BLOCKED": "blocked", "FAILED": "failed", "RUNNING": "running"}
    columns = [name for name in rows[0] if name != "partition"]
    cells = {row["partition"]: [words.get(row[c], row[c]) for c in columns] for row in rows}
    return _image(f"{title}: partitions by stage", columns, cells)
