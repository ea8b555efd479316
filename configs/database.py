"""Keys of a table of a database in model.yaml, and the parameters in its SQL."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

ColumnType = Literal["DOUBLE", "BIGINT", "VARCHAR", "BOOLEAN", "DATE", "TIMESTAMP", "TIMESTAMPTZ"]
EPOCHS: Mapping[str, int] = {"epoch": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}
"""Formats of a time that is stored as the time since 1970, and their units per second."""
_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(?P<name>start|end)\b""", re.DOTALL | re.IGNORECASE
)
_MOMENTS = [
    datetime(2009, *rest, tzinfo=UTC)
    for rest in (
        *((2, 3, 1, 9, 9), (2, 3, 9, 1, 1), (2, 3, 12, 0, 0), (2, 3, 13, 4, 9), (2, 3, 13, 10, 1), (2, 3, 13, 10, 10)),
        *((2, 11, 0, 0, 0), (4, 1, 0, 0, 0), (10, 2, 0, 0, 0)),
    )
] + [datetime(2010, 1, 1, tzinfo=UTC)]
"""Ascending times, whose texts in most formats that do not sort by time do not ascend."""


def parameters(sql: str) -> set[str]:
    """Return which of `$start` and `$end` a query has outside of texts, names and comments."""
    return {match["name"].lower() for match in _TOKEN.finditer(sql) if match["name"]}


def render(sql: str, values: Mapping[str, str]) -> str:
    """Return a query with literals in place of its parameters, without comments and without a semicolon at its end.

    Args:
        sql: The query.
        values: SQL of the literals of `start` and `end`.
    """

    def text(match: re.Match[str]) -> str:
        if name := match["name"]:
            return values[name.lower()]
        return " " if match[0].startswith(("--", "/*")) else match[0]

    return _TOKEN.sub(text, sql).strip().rstrip(";")


def database_problem(
    table: str | None,
    query: str | None,
    time: str | None,
    time_format: str | None,
    time_zone: str | None,
    watermark: str | None,
    fingerprint: str | None,
) -> str:
    """Return why a table of a database cannot be read with these keys, and what to write instead; empty if it can."""
    if (table is None) == (query is None):
        return "give either `table` or `query` with `connection`"
    if table is not None and not all(table.split(".")):
        return f"table: {table!r} is not a name; write it as orders or sales.orders"
    if query is not None and (given := parameters(query)) and (given != {"start", "end"} or not time):
        return "query: a query of a range has both $start and $end, and `time` has the name of its column with the rows' time"
    if fingerprint is not None and parameters(fingerprint) and not time:
        return "fingerprint: $start and $end need `time`, since all rows are read without it"
    if watermark and fingerprint:
        return "give either `watermark` or `fingerprint`"
    if (time_format or time_zone) and not time:
        return "`time_format` and `time_zone` are those of the column `time`; add it"
    return _zone_problem(time_zone) or _format_problem(time_format)


def _zone_problem(zone: str | None) -> str:
    try:
        ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return f"time_zone: {zone!r} is not a time zone; write a name such as Europe/Vienna"
    return ""


def _format_problem(form: str | None) -> str:
    """A text that does not sort as its time does cannot be compared with the ends of a range."""
    if form is None or form in EPOCHS:
        return ""
    texts = [moment.strftime(form) for moment in _MOMENTS]
    if "%z" in form or "%Y" not in form or texts != sorted(texts):
        return (
            f"time_format: texts of {form!r} do not sort by time, so the database cannot select a range of them; "
            "convert the column in `query`, such as to %Y-%m-%d %H:%M:%S"
        )
    return ""
