"""What the values of a column are: numbers, text or times, also if they are stored as text or as whole numbers."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from configs.flat import literal, quoted
from ops.profiling.data import STORED, stored_types
from ops.profiling.values import Column, Data
from tasks.source.values import EXACT, is_integer, is_local, is_number, is_zoned, iso_sql

if TYPE_CHECKING:
    import duckdb

DATES = ("%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y%m%d", "%d-%b-%Y", "%d %b %Y", "%d %B %Y",
         "%b %d, %Y", "%B %d, %Y", "%d/%m/%y", "%m/%d/%y")  # fmt: skip
CLOCKS = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S", "T%H:%M", " %H:%M:%S%z")
ISO = "iso"
PROBE = 2_000
"""Different values of a column that are tried against all formats."""
NAMED_AS_TIME = re.compile(
    r"(^|_)(ts|time|times|timestamp|epoch|date|day|dt|at|when|datetime)($|_|\d)|time$|date$|At$", re.IGNORECASE
)
UNITS = {
    "to_timestamp({})": (6e8, 4.2e9),
    "to_timestamp({} / 1e3)": (6e11, 4.2e12),
    "to_timestamp({} / 1e6)": (6e14, 4.2e15),
}
"""Expressions of times since 1970 in seconds, milliseconds and microseconds, each with the numbers from 1989 to 2103."""
MOSTLY = 0.98
"""Share of the values that must be numbers, or times, if others are taken as missing."""


def read_types(con: "duckdb.DuckDBPyConnection", data: Data) -> list[Column]:
    """Return the columns of the files with type and expression, without statistics."""
    zones = {} if data.is_csv else _declared_zones(data)
    return [_typed(con, name, kind, zones.get(name, "")) for name, kind in stored_types(con).items()]


def _typed(con: "duckdb.DuckDBPyConnection", name: str, kind: str, zone: str) -> Column:
    column, name_sql = Column(name, kind, "other", quoted(name), zone=zone), quoted(name)
    if is_zoned(kind) or is_local(kind):
        return replace(column, type="time", sql=f"CAST({name_sql} AS TIMESTAMPTZ)")
    if kind == "VARCHAR" or kind.startswith("ENUM") or kind == "UUID":
        return _typed_text(con, replace(column, type="text", sql=f"CAST({name_sql} AS VARCHAR)"))
    if kind == '"NULL"':
        return replace(column, type="empty", sql="CAST(NULL AS VARCHAR)")
    if is_number(kind):
        return _typed_number(con, column)
    return column


def _typed_number(con: "duckdb.DuckDBPyConnection", column: Column) -> Column:
    """A number; a time since 1970 or a date as 20240131 if name and range are those of one; text if float64 would round it."""
    name = quoted(column.name)
    low, high = con.execute(
        f"SELECT min({name}), max({name}) FROM {STORED} WHERE isfinite(CAST({name} AS DOUBLE))"  # noqa: S608
    ).fetchall()[0]
    number = replace(
        column, type="number", sql=f"CASE WHEN isfinite(CAST({name} AS DOUBLE)) THEN CAST({name} AS DOUBLE) END"
    )
    if low is None or column.stored == "BOOLEAN":
        return number
    if is_integer(column.stored) and max(abs(low), abs(high)) >= EXACT:
        number = replace(column, type="text", sql=f"CAST({name} AS VARCHAR)")
    if not NAMED_AS_TIME.search(column.name):
        return number
    if is_integer(column.stored) and low >= 19000101 and high <= 21001231:
        parsed = f"try_strptime(CAST({name} AS VARCHAR), '%Y%m%d')"
        (bad,) = con.execute(f"SELECT count(*) FROM {STORED} WHERE {name} IS NOT NULL AND {parsed} IS NULL").fetchall()[  # noqa: S608
            0
        ]
        return (
            number if bad else replace(column, type="time", sql=f"CAST({parsed} AS TIMESTAMPTZ)", formats=("%Y%m%d",))
        )
    for unit, (first, last) in UNITS.items():
        if first <= low and high <= last:
            return replace(column, type="time", sql=unit.format(name), formats=("since 1970",))
    return number


def _typed_text(con: "duckdb.DuckDBPyConnection", column: Column) -> Column:
    """Text, or the numbers or times that (almost) all its values are."""
    name = quoted(column.name)
    filled, numbers, codes, longest = con.execute(
        f"SELECT count(nullif(trim({name}), '')), count(TRY_CAST({name} AS DOUBLE)) FILTER (WHERE NOT contains({name}, '_')), "  # noqa: S608
        rf"count(*) FILTER (WHERE regexp_matches({name}, '^[+-]?0\d')), max(length({name})) FROM {STORED}"
        if column.stored == "VARCHAR"
        else f"SELECT count({name}), 0, 0, 0 FROM {STORED}"  # noqa: S608
    ).fetchall()[0]
    if not filled:
        return replace(column, type="empty") if column.stored == "VARCHAR" else column
    if longest and (formats := time_formats(con, column.name)):
        sql = text_time_sql(column.name, formats)
        (bad,) = con.execute(
            f"SELECT count(*) FROM {STORED} WHERE nullif(trim({name}), '') IS NOT NULL AND ({sql}) IS NULL"  # noqa: S608
        ).fetchall()[0]
        if bad <= filled * (1 - MOSTLY):
            return replace(column, type="time", sql=sql, formats=formats, unreadable=bad)
    truths = (
        con.execute(f"SELECT count(*) FROM {STORED} WHERE lower(trim({name})) IN ('true', 'false')").fetchall()[0][0]  # noqa: S608
        if longest
        else 0
    )
    if truths == filled:
        return replace(column, type="number", sql=f"CAST(lower(trim({name})) = 'true' AS DOUBLE)")
    if numbers >= filled * MOSTLY and not codes:
        value = f"TRY_CAST({name} AS DOUBLE)"
        return replace(
            column, type="number", sql=f"CASE WHEN isfinite({value}) THEN {value} END", unreadable=filled - numbers
        )
    return replace(column, sql=f"nullif({column.sql}, '')")


def time_formats(con: "duckdb.DuckDBPyConnection", name: str) -> tuple[str, ...]:
    """Return the formats of a column of text whose values are times: the fewest that read them; empty if they are no times."""
    query = (
        f"SELECT DISTINCT trim({quoted(name)}) AS {quoted(name)} FROM {STORED} "  # noqa: S608
        rf"WHERE regexp_matches({quoted(name)}, '\d') AND length(trim({quoted(name)})) BETWEEN 8 AND 40 ORDER BY 1 LIMIT {PROBE * 20}"
    )
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE probe AS SELECT * FROM ({query}) ORDER BY hash({quoted(name)}), 1 LIMIT {PROBE}"  # noqa: S608
    )
    (total,) = con.execute("SELECT count(*) FROM probe").fetchall()[0]
    if not total:
        return ()
    formats = [ISO, *(date + clock for date in DATES for clock in CLOCKS)]
    chosen: list[str] = []
    for _ in range(3):
        rest = f"FROM probe WHERE ({text_time_sql(name, chosen)}) IS NULL" if chosen else "FROM probe"
        plausible = ", ".join(
            f"count(*) FILTER (WHERE year({text_time_sql(name, [form])}) BETWEEN 1900 AND 2100)" for form in formats
        )
        counts = con.execute(f"SELECT {plausible} {rest}").fetchall()[0]
        best = max(range(len(formats)), key=lambda at: (counts[at] or 0, -at))
        if not counts[best] or counts[best] < 0.02 * total:
            break
        chosen.append(formats[best])
    if not chosen:
        return ()
    (read,) = con.execute(f"SELECT count({text_time_sql(name, chosen)}) FROM probe").fetchall()[0]  # noqa: S608
    return tuple(chosen) if read >= MOSTLY * total else ()


def text_time_sql(name: str, formats: "tuple[str, ...] | list[str]") -> str:
    """Return SQL that reads text in any of some formats as a timestamp with time zone, null if it is in none. Without a zone it is UTC."""
    text = f"trim({quoted(name)})"
    parts = []
    for form in formats:
        if form == ISO:
            parts += [f"timezone('UTC', {iso_sql(name, zoned=False)})", iso_sql(name, zoned=True)]
        else:
            parsed = f"try_strptime({text}, {literal(form)})"
            parts.append(parsed if "%z" in form else f"timezone('UTC', {parsed})")
    return f"coalesce({', '.join(parts)})"


def _declared_zones(data: Data) -> dict[str, str]:
    """Return the IANA time zones that the first Parquet file declares for its times. DuckDB reads the moments only."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(data.files[0])
    zones = {field.name: str(getattr(field.type, "tz", None) or "") for field in schema}
    return {name: zone for name, zone in zones.items() if "/" in zone}
