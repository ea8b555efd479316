"""The files of a model from its plan: model.yaml, and SQL if the files need it."""

from datetime import timedelta
from math import ceil
from typing import Any

import yaml

from configs.base import span_text
from configs.flat import quoted
from configs.partitioning import HOURS
from ops.profiling import sql
from ops.profiling.column_types import ISO
from ops.profiling.database import source_table
from ops.profiling.expectations import Check
from ops.profiling.features import CLOSE
from ops.profiling.periods import PERIOD
from ops.profiling.plan import Plan, table_format
from ops.profiling.roles import INGESTED
from ops.profiling.values import Column, UnusableData
from tasks.contracts.escape import one_line

CALENDAR = {"M": 2, "W": 4, "D": 7, "H": 24}
SAMPLE_FROM, SAMPLE = 400_000, 200_000
"""Rows of the first window above which a sample is used, and its size."""
PARAMS = {
    "n_estimators": 100,
    "learning_rate": 0.1,
    "max_depth": 4,
    "min_child_weight": 5,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
}
SPACE = {
    "max_depth": {"low": 2, "high": 7},
    "learning_rate": {"low": 0.03, "high": 0.2, "log": True},
    "min_child_weight": {"low": 1, "high": 50, "log": True},
}
METRIC = {"binary": "log_loss", "multiclass": "log_loss", "regression": "squared_error"}


def yaml_value(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=2**30, sort_keys=False)
    return text.removesuffix("...\n").strip()


def yaml_comment(text: Any) -> str:
    """Return text for a comment: one line, whatever a value of the data has."""
    return one_line(text)[:300]


def model_yaml(name: str, plan: Plan) -> str:
    """Return the text of model.yaml."""
    from ops.rendering import environment

    jinja = environment()
    jinja.filters |= {"y": yaml_value, "c": yaml_comment}
    return jinja.get_template("profiled.yaml.j2").render(
        name=name, p=plan.periods, **_roles(plan), **_columns(plan), **_rules(plan)
    )


def _roles(plan: Plan) -> dict[str, Any]:
    target, clock, key = plan.target, plan.columns[plan.time.name], plan.key
    files = f"{plan.data.origin}, {clock.rows:,} rows"
    why = f"{files}; SQL, since {'; '.join(plan.sql_reasons)}" if plan.sql_reasons else f"{files}; no SQL is needed"
    span = f"{plan.span.first:%Y-%m-%d} to {plan.span.last:%Y-%m-%d}"
    left_out = f"; left out, with too few rows: {', '.join(target.left_out)}" if target.left_out else ""
    return {
        "description": f"{target.name} of the rows of {plan.data.path}, predicted at {clock.name}.",
        "zone_reason": _zone_reason(plan),
        "flat": not plan.sql_reasons, "table": _table(plan), "source_reason": why,
        "key": plan.names.get(key.name, key.name), "key_reason": key.reason,
        "time": plan.names[clock.name], "time_reason": f"{plan.time.reason}; {_stored_times(clock)}; {span}",
        "target": plan.names[target.name], "target_reason": target.reason, "kind": target.kind, "kind_reason": target.kind_reason,
        "classes": list(target.classes),
        "classes_reason": ", ".join(f"{value}: {count:,}" for value, count in target.counts.items()) + left_out,
        "delay": span_text(plan.periods.delay),
    }  # fmt: skip


def _table(plan: Plan) -> dict[str, Any]:
    """Return the table of `source`: files, or a table of a database."""
    if plan.data.table:
        numbers = {column.name for column in plan.features.numeric}
        numbers |= {plan.target.name} if plan.target.kind != "multiclass" else set()
        texts = {column.name for column in plan.features.categorical} | {plan.key.name}
        same = {name for name, own in plan.names.items() if name == own}
        return source_table(plan.data, plan.columns, numbers & same, texts & same)
    table: dict[str, Any] = {"path": plan.data.path}
    table |= {"every": plan.data.every} if plan.data.every else {}
    return table | ({"time_format": form} if (form := table_format(plan)) else {})


def _zone_reason(plan: Plan) -> str:
    clock = plan.columns[plan.time.name]
    if plan.periods.zone != "UTC":
        return f"{clock.name} has this zone in the files"
    has_zone = "ZONE" in clock.stored or "since 1970" in clock.formats or any("%z" in form for form in clock.formats)
    return (
        "the times have their zone"
        if has_zone
        else "ASSUMED, if the times are without zone; a local one is such as Europe/Berlin"
    )


def _stored_times(column: Column) -> str:
    forms = [("ISO 8601" if form == ISO else form) for form in column.formats]
    return (
        f"{'text' if column.stored == 'VARCHAR' else column.stored} in the format {' or '.join(forms)}"
        if forms
        else column.stored
    )


def _columns(plan: Plan) -> dict[str, Any]:
    return {
        "numeric": [{"name": plan.names[c.name], "comment": _numbers(c, plan)} for c in plan.features.numeric],
        "categorical": [
            {"name": plan.names[c.name], "comment": _categories(c, plan)} for c in plan.features.categorical
        ],
        "excluded": list(plan.features.excluded.items()),
        "rows": f"{plan.span.rows:,}",
        "checks": [expectation_line(check) for check in plan.checks],
        "seasonal": [plan.names[name] for name in plan.seasonal],
        "seasonal_reason": _seasonal_reason(plan),
    }


def _numbers(column: Column, plan: Plan) -> str:
    middle = f"{column.numbers[1]:.4g} to {column.numbers[5]:.4g}, median {column.numbers[3]:.4g}"
    kind = "whole numbers" if column.whole else "numbers"
    unreadable = f"; {column.unreadable:,} texts count as missing" if column.unreadable else ""
    return f"{kind}, {middle}{unreadable}{_nulls(column)}{_note(column, plan)}"


def _categories(column: Column, plan: Plan) -> str:
    return f"{column.distinct:,} different values{_nulls(column)}{_note(column, plan)}"


def _nulls(column: Column) -> str:
    return f", {column.null_share:.2g} missing" if column.nulls else ""


def _note(column: Column, plan: Plan) -> str:
    score = plan.features.scores.get(column.name, 0)
    return (
        f". CHECK: {plan.features.notes[column.name]}"
        if score >= CLOSE[plan.target.kind] and column.name in plan.features.notes
        else ""
    )


def expectation_line(check: Check, severity: str = "") -> str:
    """Return an expectation as an entry of model.yaml on one line, with its comment. `severity` replaces that of the check."""
    given = severity or check.severity
    entry: dict[str, Any] = {"type": check.type}
    entry |= {"severity": given} if given != "critical" else {}
    entry |= {"columns": list(check.columns)} if check.columns else {}
    entry |= {"kwargs": dict(check.kwargs)} if check.kwargs else {}
    return f"{yaml_value(entry)} # {yaml_comment(check.comment)}"


def _seasonal_reason(plan: Plan) -> str:
    if plan.seasonal:
        return "their monthly means repeat after a year: " + ", ".join(
            f"{n} (r = {r:.2f})" for n, r in plan.seasonal.items()
        )
    long = plan.span.length >= timedelta(days=18 * 30)
    return "no column's monthly means repeat after a year" if long else "unknown: that needs 18 months of rows"


def _rules(plan: Plan) -> dict[str, Any]:
    """Return the numbers of training, gate, monitoring and retraining, which must fit the periods."""
    periods, rows, length = plan.periods, plan.span.known, timedelta(hours=HOURS[plan.periods.every])
    per_partition = max(1, plan.span.rows // max(1, len(periods.rows)))
    first = rows * periods.first // max(1, len(periods.rows))
    min_rows = max(50, min(1000, first // 5))
    many = first > SAMPLE_FROM
    block = periods.block if periods.block in ("W", "M") else "H" if periods.every == "H" else "D"
    decay_rows = min(100, max(20, per_partition))
    days = 7 if periods.every == "D" else 2 if periods.every == "W" else 1
    return {
        "holdout": span_text(periods.holdout),
        "partitions": len(periods.keys) if plan.data.older else 0,
        "min_partitions": max(1, ceil((3 * periods.holdout + 2 * periods.delay) / length)),
        "min_rows": min_rows, "min_rows_reason": f"a fifth of the about {first:,} rows before the first training, from 50 to 1000",
        "max_rows": SAMPLE if many else 0, "params": PARAMS, "space": SPACE, "trials": 0 if many else 4 if first > 100_000 else 8,
        "metric": METRIC[plan.target.kind], "floor": f"{plan.floor[0]:g}", "worst": f"{plan.floor[1]:g}", "period": PERIOD[periods.every],
        "gate_rows": max(30, min(100, periods.held // 3)),
        "monitoring_block": block, "monitoring_period": PERIOD[block],
        "decay_partitions": max(days, ceil(decay_rows / per_partition)), "decay_rows": decay_rows, "per_partition": f"{per_partition:,}",
        "cost": f"{plan.floor[1] / 100:.2g}", "calendar": CALENDAR[periods.every],
        "cool_down": span_text(periods.holdout + (timedelta(days=1) if periods.holdout >= timedelta(days=1) else timedelta(hours=1))),
    }  # fmt: skip


def sql_files(name: str, plan: Plan) -> dict[str, str]:
    """Return source.sql and labels.sql by name; none if a flat file is enough.

    Raises:
        UnusableData: A key would be made of a column that is in no file.
    """
    if not plan.sql_reasons:
        return {}
    columns, target = plan.columns, plan.columns[plan.target.name]
    form, csv, zone = table_format(plan), plan.data.is_csv, plan.periods.zone
    if plan.key.name == plan.time.name:
        raise UnusableData(
            f"KEY={plan.time.name}: the time can be the key of a flat file only, but SQL is needed; add a column that identifies a row"
        )
    time_sql = sql.time_expression(columns[plan.time.name], csv, form, zone)
    later = [plan.target.name, *([plan.label_time.name] if plan.label_time else [])]
    later += [
        c.name
        for c in columns.values()
        if c.name not in later and (INGESTED.search(c.name) or c.name in plan.features.excluded)
    ]
    key = sql.key_expression(plan.key, columns, plan.time.name, time_sql, later)
    selects = {plan.names.get(plan.key.name, plan.key.name): key, plan.names[plan.time.name]: time_sql}
    selects |= {plan.names[c.name]: sql.number_expression(c) for c in plan.features.numeric}
    selects |= {plan.names[c.name]: f"CAST({quoted(c.name)} AS VARCHAR)" for c in plan.features.categorical}
    kept = sql.newest_only(plan.key, sorted(n for n, c in columns.items() if c.type in ("number", "text", "time")))
    delay = int(plan.periods.delay / timedelta(microseconds=1))
    known_at = (
        sql.time_expression(columns[plan.label_time.name], csv, form, zone)
        if plan.label_time
        else f"{time_sql} + to_microseconds({delay})"
    )
    outcome = plan.names[plan.target.name], sql.outcome_expression(target, plan.target)
    return {
        "source.sql": sql.source_sql(name, selects, time_sql, kept),
        "labels.sql": sql.labels_sql(name, (next(iter(selects)), key), outcome, known_at, time_sql, kept, ""),
    }
