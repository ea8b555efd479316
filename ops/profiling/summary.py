"""The summary of a new model at the terminal: what was inferred, from what, and what a person should check."""

from collections.abc import Iterator

from rich.table import Table

from configs.base import span_text
from ops.profiling.distributions import is_personal
from ops.profiling.periods import PERIOD
from ops.profiling.plan import Plan
from tasks.contracts.escape import for_terminal

MOST = 12
"""Names of features in a line."""


def summary_table(plan: Plan) -> Table:
    """Return a row for each decision: its value, and what it was inferred from."""
    table = Table("", "value", "inferred from", box=None, title_justify="left")
    for what, value, reason in summary_rows(plan):
        table.add_row(what, *(for_terminal(text) for text in (value, reason)))
    return table


def summary_rows(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Yield each decision: what was decided, its value, and what it was inferred from."""
    periods, target = plan.periods, plan.target
    rows = plan.columns[plan.time.name].rows
    yield "rows", f"{rows:,}", f"{plan.data.path}: {plan.data.origin}"
    yield "time", plan.time.name, plan.time.reason
    yield "key", plan.key.name, plan.key.reason
    yield "target", f"{target.name} ({target.kind})", f"{target.reason}; {target.kind_reason}"
    yield "label delay", span_text(periods.delay), periods.reasons["delay"]
    yield "partition", PERIOD[periods.every], periods.reasons["every"]
    yield "holdout", span_text(periods.holdout), periods.reasons["holdout"]
    for kind, columns in (("numbers", plan.features.numeric), ("categories", plan.features.categorical)):
        if columns:
            names = [column.name for column in columns]
            yield kind, str(len(names)), ", ".join(names[:MOST]) + (" ..." if len(names) > MOST else "")
    for name, reason in plan.features.excluded.items():
        yield "not used", name, reason
    yield (
        "expectations",
        str(len(plan.checks)),
        "rows of a partition, missing values, ranges and categories of the history",
    )
    if plan.sql_reasons:
        yield "SQL", "source.sql, labels.sql", "; ".join(plan.sql_reasons)


def points_to_check(plan: Plan) -> list[str]:
    """Return what was assumed, and what a person should check before the model is relied on."""
    points = []
    if not plan.target.sure:
        points.append(f"Is {plan.target.name} what is to be predicted? Else give TARGET=")
    if not plan.time.sure:
        points.append(f"Is {plan.time.name} the moment of the prediction? Else give TIME=")
    if not plan.periods.sure_delay:
        delay = span_text(plan.periods.delay)
        points.append(
            f"Is an outcome known {delay} after the prediction? Else give DELAY=, or a model learns from labels that nobody had"
        )
    points += [f"{name}: {note}" for name, note in plan.features.notes.items()]
    if personal := [plan.names[column.name] for column in plan.features.all if is_personal(column.name)]:
        points.append(
            f"Do values of {', '.join(personal)} belong to people? Then list them in `personal` of model.yaml"
        )
    return points
