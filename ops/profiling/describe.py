"""Statistics of all columns, by few queries over the whole data."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from configs.flat import quoted
from ops.profiling.data import SOURCE, STORED
from ops.profiling.values import Column

if TYPE_CHECKING:
    import duckdb

ROWS = "typed"
"""Table with the columns as numbers, texts and times."""
EXACT_UP_TO = 10_000
"""Numbers of different values up to which they are counted exactly."""
QUANTILES = (0.001, 0.25, 0.5, 0.75, 0.999)
SAMPLED = 200_000
"""Rows from which quantiles are taken if there are more: every n-th one."""


def describe(con: "duckdb.DuckDBPyConnection", columns: Sequence[Column]) -> list[Column]:
    """Make the table `ROWS`, and return the columns with their statistics. The stored rows are dropped."""
    typed = [column for column in columns if column.type in ("number", "text", "time")]
    selects = [f"{column.sql} AS {quoted(column.name)}" for column in typed]
    con.execute(f"CREATE TABLE {ROWS} AS SELECT {', '.join([*selects, quoted(SOURCE)])} FROM {STORED}")  # noqa: S608
    con.execute(f"DROP TABLE {STORED}")
    (rows,) = con.execute(f"SELECT count(*) FROM {ROWS}").fetchall()[0]  # noqa: S608
    counted = _counts(con, typed, rows)
    quantiles = _quantiles(con, [column.name for column in typed if column.type == "number"], rows)
    described = {column.name: _with_numbers(column, quantiles.get(column.name, ())) for column in counted}
    return [described.get(column.name, replace(column, rows=rows, nulls=rows)) for column in columns]


def _counts(con: "duckdb.DuckDBPyConnection", columns: Sequence[Column], rows: int) -> list[Column]:
    """Count missing and different values, and find the least and greatest."""
    if not columns:
        return []
    selects = []
    for column in columns:
        name = quoted(column.name)
        whole = f"count(*) FILTER (WHERE {name} <> trunc({name}))" if column.type == "number" else "0"
        selects += [f"count({name})", f"approx_count_distinct({name})", f"min({name})", f"max({name})", whole]
    values = con.execute(f"SELECT {', '.join(selects)} FROM {ROWS}").fetchall()[0]  # noqa: S608
    found = [_counted(column, rows, values[5 * at : 5 * at + 5]) for at, column in enumerate(columns)]
    few = [column.name for column in found if column.distinct <= EXACT_UP_TO * 1.1]
    if few:
        exact = con.execute(
            f"SELECT {', '.join(f'count(DISTINCT {quoted(name)})' for name in few)} FROM {ROWS}"  # noqa: S608
        ).fetchall()[0]
        by_name = dict(zip(few, exact, strict=True))
        found = [replace(column, distinct=by_name.get(column.name, column.distinct)) for column in found]
    return found


def _counted(column: Column, rows: int, values: Sequence[Any]) -> Column:
    filled, distinct, low, high, fractions = values
    counted = replace(
        column,
        rows=rows,
        nulls=rows - filled,
        distinct=min(distinct, filled),
        whole=column.type == "number" and not fractions,
    )
    if column.type == "number" and filled:
        return replace(counted, numbers=(float(low), float(high)))
    if column.type == "time" and filled:
        return replace(counted, span=(low, high))
    return counted


def _quantiles(con: "duckdb.DuckDBPyConnection", names: Sequence[str], rows: int) -> dict[str, tuple[float, ...]]:
    """Return the quantiles of columns of numbers."""
    if not names:
        return {}
    step = max(1, rows // SAMPLED)
    wanted = ", ".join(f"quantile_disc({quoted(name)}, {list(QUANTILES)})" for name in names)
    values = con.execute(f"SELECT {wanted} FROM {ROWS} WHERE rowid % {step} = 0").fetchall()[0]  # noqa: S608
    return {name: tuple(map(float, own)) for name, own in zip(names, values, strict=True) if own}


def _with_numbers(column: Column, quantiles: tuple[float, ...]) -> Column:
    if not column.numbers:
        return column
    low, high = column.numbers
    return replace(column, numbers=(low, *(quantiles or (low, low, low, high, high)), high))


def top_values(con: "duckdb.DuckDBPyConnection", name: str, most: int = 60) -> list[tuple[str, int]]:
    """Return the most frequent values of a column as text, each with its number of rows; whole numbers without a decimal point."""
    text = rf"regexp_replace(CAST({quoted(name)} AS VARCHAR), '^(-?\d+)\.0$', '\1')"
    query = (
        f"SELECT {text}, count(*) FROM {ROWS} WHERE {quoted(name)} IS NOT NULL "  # noqa: S608
        f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {most}"
    )
    return [(str(value), int(count)) for value, count in con.execute(query).fetchall()]


def scalar(con: "duckdb.DuckDBPyConnection", query: str) -> Any:
    """Return the only value of a query over `ROWS`."""
    return con.execute(query).fetchall()[0][0]
