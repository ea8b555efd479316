"""Dates in the names of files: `sales-2024-03.parquet` is `sales-%Y-%m.parquet` if its rows are those of March 2024."""

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from configs.base import Every
from configs.flat import quoted
from configs.paths import parse_date
from configs.settings import ROOT
from ops.profiling.data import SOURCE
from ops.profiling.describe import ROWS
from ops.profiling.values import Data
from tasks.source.origins import origin
from tasks.storage.partitions import floor, next_start

if TYPE_CHECKING:
    import duckdb

FORMS: tuple[tuple[Every, str, str], ...] = (
    ("H", r"(20\d\d)([-_/.]?)(\d\d)([-_/.]?)(\d\d)([-_/.T]?)(\d\d)(?!\d)", r"%Y\2%m\4%d\6%H"),
    ("D", r"year=(20\d\d)/month=(\d\d)/day=(\d\d)", "year=%Y/month=%m/day=%d"),
    ("D", r"year=(20\d\d)/month=(\d{1,2})/day=(\d{1,2})", "year=%Y/month=%-m/day=%-d"),
    ("D", r"(20\d\d)([-_/.]?)(\d\d)([-_/.]?)(\d\d)(?!\d)", r"%Y\2%m\4%d"),
    ("W", r"(20\d\d)([-_/.]?)W(\d\d)(?!\d)", r"%G\2W%V"),
    ("M", r"year=(20\d\d)/month=(\d\d)(?!\d)", "year=%Y/month=%m"),
    ("M", r"year=(20\d\d)/month=(\d{1,2})(?!\d)", "year=%Y/month=%-m"),
    ("M", r"(20\d\d)([-_/.]?)(\d\d)(?!\d)", r"%Y\2%m"),
)
"""Periods of a file, their patterns in a path, and the same with directives. The first one that fits all files is used."""


def with_dates(con: "duckdb.DuckDBPyConnection", data: Data, time: str, zone: str) -> Data:
    """Return the files with a dated path, if the names of all have a date and all rows are within the file's period."""
    if len(data.files) < 2:
        return data
    spans = _spans(con, time, zone)
    names = {origin(file).removeprefix(f"{ROOT}/"): spans.get(str(file)) for file in data.files}
    for every, pattern, directives in FORMS:
        paths = {re.sub(pattern, directives, name.replace("%", "%%"), count=1) for name in names}
        if (
            len(paths) == 1
            and "%" in (path := paths.pop())
            and all(_fits(path, name, every, span) for name, span in names.items())
        ):
            return replace(data, path=path, every=every)
    return data


def _spans(con: "duckdb.DuckDBPyConnection", time: str, zone: str) -> dict[str, tuple[datetime, datetime]]:
    """Return the first and the last time of the rows of each file, as naive local time."""
    query = f"SELECT {quoted(SOURCE)}, min({quoted(time)}), max({quoted(time)}) FROM {ROWS} WHERE {quoted(time)} IS NOT NULL GROUP BY 1"  # noqa: S608
    rows = con.execute(query).fetchall()
    return {str(Path(f)): tuple(t.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for t in (a, b)) for f, a, b in rows}


def _fits(path: str, name: str, every: Every, span: tuple[datetime, datetime] | None) -> bool:
    start = parse_date(path, name, every)
    if start is None or floor(start, every) != start:
        return False
    return span is None or (start <= span[0] and span[1] < next_start(start, every))
