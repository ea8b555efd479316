"""Distributions of columns and of the target over time, for the profile page of `make model FROM=`."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.flat import literal, quoted
from ops.profiling.describe import ROWS, top_values
from ops.profiling.periods import PARTITION_FORMAT, PERIOD
from ops.profiling.values import Column, Periods, TargetChoice

if TYPE_CHECKING:
    import duckdb

_PERSON = "customer|user|client|patient|member|employee|person|contact|guest|driver|passenger|applicant"
PERSONAL = re.compile(
    rf"(^|[_\-\s])(e?mail|phone|mobile|tel|fax|(first|last|sur|full)_?name|({_PERSON})(_?(id|no|number|name|key|code))?|name|address|street|"
    r"city|zip|postal_?code|postcode|birth\w*|dob|ssn|social_security|passport|iban|(account|card)_?(no|number|id)|tax_?id|licen[cs]e|ip|"
    r"lat|latitude|lon|lng|longitude|gender|sex|religion|ethnicity|nationality)\d*([_\-\s]|$)",
    re.IGNORECASE,
)
"""Names of columns whose values may belong to people. Their values are not on the page."""
BINS, TOP = 20, 8
"""Bars of a column of numbers, and the most frequent values that are shown of one of text."""
NEWEST = 120
"""Partitions that the page shows, the newest ones."""


@dataclass(frozen=True)
class PartitionRows:
    """Rows of a partition: all, those with an outcome, and the mean outcome, or the share of each class."""

    key: str
    rows: int
    known: int
    outcomes: Mapping[str, float]


@dataclass(frozen=True)
class Distributions:
    """What the profile page draws.

    Attributes:
        values: By column: labels and rows of its bars.
        partitions: The newest partitions, oldest first.
    """

    values: Mapping[str, Sequence[tuple[str, int]]]
    partitions: Sequence[PartitionRows]


def is_personal(name: str) -> bool:
    """Whether the name of a column suggests that its values belong to people."""
    return bool(PERSONAL.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)))


def read_distributions(
    con: "duckdb.DuckDBPyConnection",
    columns: Collection[Column],
    time: str,
    target: TargetChoice,
    outcome: str,
    periods: Periods,
) -> Distributions:
    """Return the distributions of all columns that have one, and the rows and outcomes of partitions.

    Args:
        con: A session with the typed rows.
        columns: All columns.
        time: The column with the time.
        target: The target.
        outcome: SQL of the outcome: a number, or the text of a class.
        periods: Partitions and durations.
    """
    values = {column.name: _bars(con, column) for column in columns if not is_personal(column.name)}
    return Distributions(values, _partitions(con, time, target, outcome, periods))


def _bars(con: "duckdb.DuckDBPyConnection", column: Column) -> list[tuple[str, int]]:
    """Return the bars of a column: its most frequent values, or equal ranges of numbers; none if nearly each row has its own value."""
    if column.type == "number" and column.distinct > TOP:
        return _histogram(con, column)
    if column.type not in ("number", "text") or column.distinct > max(TOP, column.rows // 20):
        return []
    return top_values(con, column.name, TOP)


def _histogram(con: "duckdb.DuckDBPyConnection", column: Column) -> list[tuple[str, int]]:
    low, high = column.numbers[1], column.numbers[5]
    if not high > low:
        low, high = column.numbers[0], column.numbers[-1]
    width, name = (high - low) / BINS, quoted(column.name)
    number = f"CAST(least({BINS - 1}, floor(({name} - {low!r}) / {width!r})) AS INTEGER)"
    query = f"SELECT {number}, count(*) FROM {ROWS} WHERE {name} BETWEEN {low!r} AND {high!r} GROUP BY 1"  # noqa: S608
    counts = dict(con.execute(query).fetchall())
    return [(f"{low + at * width:.4g} to {low + (at + 1) * width:.4g}", int(counts.get(at, 0))) for at in range(BINS)]


def _partitions(
    con: "duckdb.DuckDBPyConnection", time: str, target: TargetChoice, outcome: str, periods: Periods
) -> list[PartitionRows]:
    """Return the rows of the newest partitions, oldest first."""
    start = f"date_trunc('{PERIOD[periods.every]}', timezone({literal(periods.zone)}, {quoted(time)}))"
    form = PARTITION_FORMAT[periods.every]
    names = list(target.classes)[:TOP]
    means = [f"avg(CAST(outcome = {literal(name)} AS DOUBLE))" for name in names] or ["avg(outcome)"]
    query = (
        f"SELECT strftime(CAST(start AS TIMESTAMP), '{form}'), count(*), count(outcome), {', '.join(means)} FROM "  # noqa: S608
        f"(SELECT {start} AS start, {outcome} AS outcome FROM {ROWS} WHERE {quoted(time)} IS NOT NULL) GROUP BY start ORDER BY start"
    )
    rows: list[Any] = con.execute(query).fetchall()[-NEWEST:]
    labels = names or ["share of 1" if target.kind == "binary" else "mean"]
    return [
        PartitionRows(
            str(key), int(count), int(known), {n: v for n, v in zip(labels, values, strict=True) if v is not None}
        )
        for key, count, known, *values in rows
    ]
