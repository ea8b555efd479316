"""Artifacts of a `backfill` run: the plan, the result, and the grid of partitions and steps."""

import base64
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from tasks.backfill.plan import RUN_ACTIONS
from tasks.contracts import Outcome, Plan
from tasks.contracts.escape import for_markdown
from tasks.contracts.words import counted, duration_text
from tasks.reports.artifacts.outcomes import drift_of
from tasks.reports.artifacts.page import publish_page, publish_table, table_lines
from tasks.reports.figures import grid_plot
from tasks.reports.summary import DONE_LABELS, grid
from tasks.resources import LiveResources

ACTION_LABEL = {"make": "make", "again": "again", "keep": "·", "leave": "left", "wait": "…"}
LEGEND = (
    "fresh: computed from the present inputs; empty: fresh, and the source has no rows; missing: not computed yet; "
    "a dot: not due, or no champion yet"
)
PLOT_STATE = {"keep": "fresh", "leave": "left", "wait": "waiting"}
"""States of `grid_plot` for the actions of a plan that have another name there."""
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.+-]+")
MOST_REASONS = 30
LONGEST = 60
"""Partitions in a page's table. The plot shows all of them."""


def publish_plan(res: LiveResources, plan: Plan, dry: bool) -> str:
    """Create a page with the planned steps, their reasons, and the command that runs the plan; returns the headline."""
    line = plan_headline(res.title, plan)
    command = f"prefect deployment run backfill/manual -p model={res.config.name} -p plan={plan.digest}"
    body = ["", f"Run exactly this plan: `{command}`"] if dry and plan.todo else []
    if plan.todo:
        body += ["", plan_image(f"{res.title}: planned steps", plan)]
    body += ["", *_reasons(plan), "", *plan_table(plan)]
    return publish_page(res, "backfill-plan", line, body)


def plan_headline(title: str, plan: Plan) -> str:
    """Summarise a plan in one line: steps, partitions, rows and expected time."""
    count, rows = len(plan.todo), sum(plan.rows[key] or 0 for key in plan.todo)
    steps = sum(c.action in RUN_ACTIONS for key in plan.todo for c in plan.cells[key])
    if not count:
        return f"{title}: plan {plan.digest}: nothing to do for {counted(len(plan.cells), 'partition')} with mode={plan.request.mode}."
    size = f", {counted(rows, 'row')} at the last ingest" if rows else ""
    duration = (
        f"about {duration_text(plan.seconds)} of work on one core"
        if plan.seconds is not None
        else "duration unknown, since there is no earlier run"
    )
    return f"{title}: plan {plan.digest}: {counted(steps, 'step')} of {count} of {counted(len(plan.cells), 'partition')}{size}; {duration}."


def _reasons(plan: Plan) -> list[str]:
    """List the reasons, the most frequent first. Reasons that differ only in partition or time are listed once, by the first."""
    groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for key, cells in plan.cells.items():
        for cell in cells:
            if cell.why:
                pattern = TIMESTAMP.sub("", cell.why.replace(key, ""))
                groups.setdefault((cell.verb, cell.action, pattern), []).append((key, cell.why))
    largest = sorted(groups.items(), key=lambda item: -len(item[1]))[:MOST_REASONS]
    return [
        f"- {ACTION_LABEL[action].replace('…', 'wait')} {verb} of {_key_list([key for key, _ in cells])}: {for_markdown(cells[0][1])}"
        for (verb, action, _), cells in largest
    ]


def _key_list(keys: Sequence[str]) -> str:
    return ", ".join(keys) if len(keys) < 4 else f"{len(keys)} partitions"


def plan_table(plan: Plan) -> list[str]:
    """Return a markdown table of partitions and steps: `make`, `again`, `·` fresh, `left` not in this mode, `…` waits."""
    verbs = [c.verb for c in next(iter(plan.cells.values()), ())]
    rows = [
        (key, "" if plan.rows[key] is None else f"{plan.rows[key]:,}", *(ACTION_LABEL[c.action] for c in cells))
        for key, cells in list(plan.cells.items())[:LONGEST]
    ]
    more = len(plan.cells) - LONGEST
    return [
        *table_lines(("partition", "rows", *verbs), rows),
        *([f"\n{counted(more, 'more partition')} in the plan's file."] if more > 0 else []),
    ]


def plan_image(title: str, plan: Plan) -> str:
    """Return the plan's cells as an image in markdown."""
    verbs = [c.verb for c in next(iter(plan.cells.values()))]
    rows = {key: [PLOT_STATE.get(c.action, c.action) for c in plan.cells[key]] for key in sorted(plan.cells)}
    return _image(title, verbs, rows)


def _image(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    data = base64.b64encode(grid_plot(title, columns, rows)).decode()
    return f"![{for_markdown(title)}](data:image/png;base64,{data})"


def publish_backfill(res: LiveResources, plan: Plan, outcomes: Sequence[Outcome]) -> tuple[str, list[str]]:
    """Create the page and the grid of a `backfill` run; returns the headline and the run's tags."""
    if not plan.todo:
        return _publish_empty(res, plan), []
    counts, verify = Counter(map(outcome_state, outcomes)), plan.request.mode == "verify"
    line = f"{res.title}: {counts['updated']} of {counted(len(outcomes), 'partition')} {'repaired' if verify else 'brought up to date'}, "
    line += f"{counts['failed']} failed, {counts['blocked']} blocked"
    if counts["not started"] or counts["incomplete"]:
        incomplete = f", {counts['incomplete']} incomplete" if counts["incomplete"] else ""
        line += f"{incomplete}, {counts['not started']} not started; run it again with mode=missing to continue"
    elif verify and (worst := [f"{o.partition} {v}: {w}" for o in outcomes for v, s, w in o.passed if s == "failed"]):
        line += f"; {worst[0]}" + (f"; {len(worst) - 1} more" if len(worst) > 1 else "")
    elif (counts["failed"] or counts["blocked"]) and not verify:
        line += "; mode=failed runs only those again"
    notes = [f"- {o.partition} failed: {for_markdown(o.failed)}" for o in outcomes if o.failed]
    notes += [
        f"- {o.partition} failed at {v}: {for_markdown(w)}" for o in outcomes for v, s, w in o.passed if s == "failed"
    ]
    notes += [
        f"- {o.partition} repaired at {v}: {for_markdown(w)}"
        for o in outcomes
        for v, s, w in o.passed
        if verify and s == "made"
    ]
    notes += [f"- {o.partition} blocked: {for_markdown(o.blocked)}" for o in outcomes if o.blocked]
    waits = [(o.partition, v, w) for o in outcomes for v, s, w in o.passed if s == "waiting"]
    notes += [f"- {key}: {verb} waits: {for_markdown(reason)}" for key, verb, reason in waits[:LONGEST]]
    refs = [res.ref(o.partition) for o in sorted(outcomes, key=lambda o: o.partition)]
    rows = grid(res, refs)
    publish_table(res, "grid", rows, grid_line(res.title, rows))
    drifted = drift_of([o.partition for o in outcomes if ("watch", "made") in {step[:2] for step in o.passed}], res)
    line += f"; drift in {counted(len(drifted), 'partition')}, first {min(drifted)}" if drifted else ""
    tags = [*(["drift"] if drifted else []), *(["blocked"] if counts["blocked"] else [])]
    return publish_page(res, "backfill", f"{line}.", [grid_image(res.title, rows), "", *notes]), tags


def _publish_empty(res: LiveResources, plan: Plan) -> str:
    """Create the page and the grid of a plan without steps, from the plan alone."""
    labels = {"keep": "fresh", "leave": "left", "wait": "."}
    rows = [
        {"partition": key, **{c.verb: labels[c.action] for c in cells}} for key, cells in sorted(plan.cells.items())
    ]
    left = sum(any(c.action == "leave" for c in cells) for cells in plan.cells.values())
    line = f"{res.title}: nothing to do for {counted(len(rows), 'partition')} with mode={plan.request.mode}"
    if plan.request.mode == "verify":
        line = f"{res.title}: {counted(len(rows), 'partition')} verified, no output is damaged"
    line += f"; {left} of them {'has' if left == 1 else 'have'} steps that another mode would run" if left else ""
    publish_table(res, "grid", rows, grid_line(res.title, rows))
    return publish_page(res, "backfill", f"{line}.", _reasons(plan))


def grid_line(title: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Count the partitions that are up to date, and explain the grid."""
    done = sum({v for name, v in row.items() if name != "partition"} <= {*DONE_LABELS} for row in rows)
    return f"{title}: {done} of {counted(len(rows), 'partition')} up to date in every stage. {LEGEND}."


def outcome_state(outcome: Outcome) -> str:
    """Return `failed`, `not started`, `incomplete`, `blocked`, `updated` or `fresh`."""
    if outcome.failed or any(state == "failed" for _, state, _ in outcome.passed):
        return "failed"
    if outcome.untouched:
        return "incomplete" if outcome.passed else "not started"
    if outcome.blocked:
        return "blocked"
    return "updated" if any(state == "made" for _, state, _ in outcome.passed) else "fresh"


def grid_image(title: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Return the grid as an image in markdown."""
    states = {".": "waiting", "BLOCKED": "blocked", "FAILED": "failed", "RUNNING": "running"}
    columns = [name for name in rows[0] if name != "partition"]
    cells = {row["partition"]: [states.get(row[c], row[c]) for c in columns] for row in rows}
    return _image(f"{title}: partitions by step", columns, cells)
