"""Expectations from history: rows of a partition, missing values, ranges, and closed sets of categories."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING, NamedTuple

from configs.flat import literal, quoted
from ops.profiling.describe import ROWS
from ops.profiling.distributions import is_personal
from ops.profiling.features import Features, closed_set
from ops.profiling.periods import PERIOD
from ops.profiling.values import Column, Periods

if TYPE_CHECKING:
    import duckdb

COUNT, NOT_NULL, BETWEEN, IN_SET = (
    f"expect_{name}"
    for name in (
        "table_row_count_to_be_between",
        "column_values_to_not_be_null",
        "column_values_to_be_between",
        "column_values_to_be_in_set",
    )
)
FAR_OUTSIDE = "those far outside are reported only"
"""Part of the comment of a range beyond which there are values."""
FAR = 10
"""Robust ranges outside of the robust range from which on values are far from the others."""


class Check(NamedTuple):
    """One expectation with the comment that says where it is from."""

    type: str
    severity: str
    columns: tuple[str, ...]
    kwargs: Mapping[str, object]
    comment: str


def expectations(
    con: "duckdb.DuckDBPyConnection", features: Features, time: str, periods: Periods, names: Mapping[str, str]
) -> list[Check]:
    """Return the expectations of a model.

    Args:
        con: A session with the typed rows.
        features: The features.
        time: The column with the time.
        periods: Partitions and durations.
        names: Name of each column in model.yaml.
    """
    ranges = [_range(column, names) for column in features.numeric if column.distinct > 2]
    # Values of people are not written into a file that is committed.
    sets = [_set(con, column, time, names) for column in features.categorical if not is_personal(column.name)]
    return [
        _row_count(periods),
        *_nulls(con, features.all, time, periods, names),
        *filter(None, ranges),
        *filter(None, sets),
    ]


def _row_count(periods: Periods) -> Check:
    """Half of the fewest rows of a partition to twice the most: seasons of the history are within."""
    low, high = min(periods.rows), max(periods.rows)
    inner = sorted(periods.rows[1:-1] or periods.rows)
    period = PERIOD[periods.every]
    comment = f"{len(periods.rows)} {period}s had {low:,} to {high:,} rows, median {inner[len(inner) // 2]:,}; half to twice as many pass"
    return Check(COUNT, "critical", (), {"min_value": max(1, low // 2), "max_value": 2 * high}, comment)


def _nulls(
    con: "duckdb.DuckDBPyConnection", columns: Sequence[Column], time: str, periods: Periods, names: Mapping[str, str]
) -> list[Check]:
    """Columns by the share of values that a partition must have: a tenth more missing values than in the worst one, or twice as many."""
    if not columns:
        return []
    start = f"date_trunc('{PERIOD[periods.every]}', timezone({literal(periods.zone)}, {quoted(time)}))"
    shares = ", ".join(f"1 - count({quoted(column.name)}) / count(*) AS s{at}" for at, column in enumerate(columns))
    worst = con.execute(
        f"SELECT {', '.join(f'max(s{at})' for at in range(len(columns)))} FROM (SELECT {shares} FROM {ROWS} "  # noqa: S608
        f"WHERE {quoted(time)} IS NOT NULL GROUP BY {start})"
    ).fetchall()[0]
    by_share: dict[float, list[str]] = defaultdict(list)
    for column, share in zip(columns, worst, strict=True):
        allowed = floor(20 * (1 - max(share + 0.1, 2 * share))) / 20 if share else 0.9
        if allowed > 0:
            by_share[allowed].append(names[column.name])
    checks = []
    for mostly, own in sorted(by_share.items(), reverse=True):
        some = "had no missing value" if mostly == 0.9 else "had missing values"
        comment = f"{some}; a {PERIOD[periods.every]} with more than {1 - mostly:.0%} of them is blocked"
        checks.append(Check(NOT_NULL, "critical", tuple(own), {"mostly": mostly}, comment))
    return checks


def _range(column: Column, names: Mapping[str, str]) -> Check | None:
    """All values, with a whole robust range more at both ends. Numbers that were never negative stay so.

    Values far from the others do not count. If there are any, the check only reports: they may be right.
    """
    least, low, _, _, _, high, greatest = column.numbers
    width = (high - low) or (greatest - least)
    if not width:
        return None
    start, end = max(least, low - FAR * width), min(greatest, high + FAR * width)
    far = start > least or end < greatest
    below = 0.0 if least >= 0 else _rounded(start - width, width, floor)
    above = 0.0 if greatest <= 0 else _rounded(end + width, width, ceil)
    kwargs = {"min_value": _plain(below), "max_value": _plain(above)}
    comment = f"99.8 % of the values are from {low:.4g} to {high:.4g}, all from {least:.4g} to {greatest:.4g}"
    comment += f"; {FAR_OUTSIDE}, `severity: warning` would quarantine their rows" if far else ""
    return Check(BETWEEN, "info" if far else "warning", (), {"column": names[column.name], **kwargs}, comment)


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def _rounded(value: float, width: float, to: Callable[[float], int]) -> float:
    """Return a limit rounded outwards to two digits of the range."""
    unit = 10.0 ** (floor(log10(width)) - 1)
    return float(f"{to(value / unit) * unit:.12g}")


def _set(con: "duckdb.DuckDBPyConnection", column: Column, time: str, names: Mapping[str, str]) -> Check | None:
    values = closed_set(con, column, time) if column.type == "text" else []
    if not values:
        return None
    comment = "no other value since the first half of the rows; a new one is reported only, `severity: warning` would quarantine its rows"
    return Check(IN_SET, "info", (), {"column": names[column.name], "value_set": values}, comment)


def seasonal(
    con: "duckdb.DuckDBPyConnection", features: Features, time: str, periods: Periods, days: float
) -> dict[str, float]:
    """Return the numbers whose monthly means repeat after a year, with the correlation between the years; needs 18 months of rows."""
    import numpy as np

    columns = [column for column in features.numeric if column.distinct > 10]
    if days < 18 * 30 or not columns:
        return {}
    month = f"date_trunc('month', timezone({literal(periods.zone)}, {quoted(time)}))"
    means = ", ".join(f"avg({quoted(column.name)})" for column in columns)
    table = con.execute(
        f"SELECT epoch({month}), {means} FROM {ROWS} WHERE {quoted(time)} IS NOT NULL GROUP BY 1 ORDER BY 1"  # noqa: S608
    ).fetchall()[1:-1]
    found = {}
    for at, column in enumerate(columns, start=1):
        values = np.array([np.nan if row[at] is None else row[at] for row in table], dtype="float64")
        before, after = values[:-12], values[12:]
        both = np.isfinite(before) & np.isfinite(after)
        scale = (column.numbers[4] - column.numbers[2]) / 1.35
        if (
            both.sum() >= 6
            and scale > 0
            and values[np.isfinite(values)].std() > 0.2 * scale
            and before[both].std()
            and after[both].std()
        ):
            correlation = float(np.corrcoef(before[both], after[both])[0, 1])
            if correlation > 0.7:
                found[column.name] = correlation
    return found
