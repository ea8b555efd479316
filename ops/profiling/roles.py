"""Which columns are the time, the key and the target, and when the outcome is known."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations
from math import prod
from typing import TYPE_CHECKING

from configs.flat import quoted
from ops.profiling.describe import ROWS, scalar
from ops.profiling.values import Choice, Column, KeyChoice, UnusableData
from tasks.source.values import is_integer

if TYPE_CHECKING:
    import duckdb

IDENTIFIER = re.compile(r"(^|_)(id|ids|key|uuid|guid|pk|no|nr|number|code|ref|hash)$|^(id|key)_|Id$|ID$|UUID$")
NOT_EVENT = re.compile(
    r"ingest|load|insert|import|etl|sync|upload|extract|creat|updat|modif|process|birth|dob|signup|register|joined|since|due|end|until|"
    r"expir|clos|resolv|label|outcome|target|known|settle|matur|return|deliver|cancel|arriv|complet|finish|partition",
    re.IGNORECASE,
)
INGESTED = re.compile(r"ingest|load|insert|import|etl|sync|upload|extract|updat|modif", re.IGNORECASE)
EVENT = re.compile(
    r"^(at|ts|dt|time|date|day|timestamp|datetime)$|event|happen|occur|order|request|sched|observ|measur|pickup|start|trans",
    re.IGNORECASE,
)
LATER = re.compile(
    r"label|outcome|target|known|settle|matur|resolv|clos|decid|result|verified|return|deliver|paid|complet",
    re.IGNORECASE,
)
TARGET = re.compile(r"^(target|label|y|outcome|class|response|result)$|(^|_)(target|label|outcome)$", re.IGNORECASE)
TARGET_WORD = re.compile(
    r"churn|default|fraud|late$|fail|converted|click|won$|survived|defect|cancell?ed|returned|delayed|paid_back|bad$|risk$|rating|grade",
    re.IGNORECASE,
)
ROW_KEY = "row_key"
MOST_PARTS, SAMPLE = 6, 50_000
"""Columns that are tried as parts of a key, and the rows in which a combination must be unique before all are looked at."""


def require_column(columns: Mapping[str, Column], option: str, name: str) -> Column:
    """Return a column that an option names.

    Raises:
        UnusableData: There is none. The message has the most similar name.
    """
    if name in columns:
        return columns[name]
    closest = difflib.get_close_matches(name.lower(), {other.lower(): other for other in columns}, n=1)
    hint = next((f"; did you mean {other!r}?" for other in columns if closest and other.lower() == closest[0]), "")
    raise UnusableData(f"{option}={name}: the data have no such column{hint} They have: {', '.join(columns)}")


def choose_time(con: "duckdb.DuckDBPyConnection", columns: Mapping[str, Column], given: str = "") -> Choice:
    """Return the column with the prediction time.

    Raises:
        UnusableData: No column is a time, or the given one is none.
    """
    times = [column for column in columns.values() if column.type == "time"]
    if given:
        column = require_column(columns, "TIME", given)
        if column.type != "time":
            raise UnusableData(
                f"TIME={given}: its values are no times; store them as timestamps, or as text in one format such as 2024-03-31 15:00"
            )
        return Choice(given, "given as TIME")
    if not times:
        raise UnusableData(
            "no column is a time, but a model needs the time of each prediction. Add one, as a timestamp or text such as 2024-03-31 15:00"
        )
    if len(times) == 1:
        return Choice(times[0].name, "the only column with times")
    orders = {column.name: _order(con, column, times) for column in times}
    ranked = sorted(times, key=lambda column: _time_rank(column, orders[column.name]), reverse=True)
    others = ", ".join(column.name for column in ranked[1:])
    return Choice(
        ranked[0].name,
        f"of {len(times)} columns with times, by its name, its values and its order before the others ({others})",
        sure=False,
    )


def _time_rank(column: Column, order: str) -> tuple[bool, bool, int, bool, int, int]:
    points = 2 * bool(EVENT.search(column.name)) - 3 * bool(NOT_EVENT.search(column.name)) + (order != "later")
    return (column.null_share < 0.01, order != "coarser", points, order != "later", -column.nulls, column.distinct)


def _order(con: "duckdb.DuckDBPyConnection", column: Column, times: Sequence[Column]) -> str:
    """Return `coarser` if a column is another one's day, `later` if it is at or after another one in almost all rows; else nothing."""
    order = ""
    for other in times:
        if other is column:
            continue
        own, its = quoted(column.name), quoted(other.name)
        shares = (
            f"avg(CAST({sql} AS INT))"
            for sql in (
                f"{own} >= {its}",
                f"{own} = {its}",
                f"{own} = date_trunc('day', {its})",
                f"{its} = date_trunc('day', {own})",
            )
        )
        later, same, is_day, has_day = (
            share or 0
            for share in con.execute(f"SELECT {', '.join(shares)} FROM {ROWS}").fetchall()[0]  # noqa: S608
        )
        if is_day > 0.99 and same < 0.99:
            return "coarser"
        if later > 0.99 and same < 0.5 and has_day < 0.99:
            order = "later"
    return order


def choose_label_time(
    con: "duckdb.DuckDBPyConnection", columns: Mapping[str, Column], time: str, target: str
) -> Choice | None:
    """Return the column with the time when the outcome became known, None if there is none.

    Its name is that of one, or it has values in the rows with an outcome only, and it is never before the prediction time.
    """
    for column in columns.values():
        if column.type != "time" or column.name == time or INGESTED.search(column.name):
            continue
        own, outcome, start = quoted(column.name), quoted(target), quoted(time)
        query = (
            f"SELECT count({own}), count(*) FILTER (WHERE {own} < {start}), "  # noqa: S608
            f"count(*) FILTER (WHERE ({own} IS NULL) <> ({outcome} IS NULL)), "
            f"count(*) FILTER (WHERE {outcome} IS NULL), count(*) FILTER (WHERE {outcome} IS NOT NULL AND {own} IS NULL) FROM {ROWS}"
        )
        filled, before, differ, open_rows, without = con.execute(query).fetchall()[0]
        if not filled or before > 0.001 * filled or without > 0.01 * column.rows:
            continue
        named = bool(LATER.search(column.name)) or target.lower() in column.name.lower()
        if named or (open_rows and differ <= 0.01 * open_rows):
            reason = "by its name" if named else "it has a value in the rows with an outcome only"
            return Choice(column.name, f"{reason}, and never before {time}", sure=not named or bool(open_rows))
    return None


def choose_key(
    con: "duckdb.DuckDBPyConnection", columns: Mapping[str, Column], time: str, target: str, given: str = ""
) -> KeyChoice:
    """Return how a row is identified: by a unique column, by the time, by time and one or two columns, or by all its values."""
    rows = columns[time].rows
    if given:
        column = require_column(columns, "KEY", given)
        if column.nulls:
            raise UnusableData(
                f"KEY={given}: {column.nulls:,} of {rows:,} rows have no value, but a key identifies every row; choose another column"
            )
        return _with_duplicates(con, columns, column, time, "given as KEY")
    able = [c for c in columns.values() if _can_identify(c, time, target)]
    able.sort(key=lambda column: (not IDENTIFIER.search(column.name), list(columns).index(column.name)))
    unique = [column for column in able if column.distinct > 0.9 * rows and _distinct(con, [column.name]) == rows]
    if unique:
        return KeyChoice(unique[0].name, (unique[0].name,), f"unique in all {rows:,} rows")
    nearly = [column for column in able if IDENTIFIER.search(column.name) and column.distinct > 0.85 * rows]
    for column in nearly:
        if _distinct(con, [column.name]) >= 0.9 * rows:
            return _with_duplicates(con, columns, column, time, "almost unique, with the name of an identifier")
    if columns[time].distinct > 0.9 * rows and _distinct(con, [time]) == rows:
        return KeyChoice(time, (time,), "each row has a time of its own, and no other column is unique")
    return _combined(con, columns, able, time, rows)


def _can_identify(column: Column, time: str, target: str) -> bool:
    whole = column.type == "number" and (is_integer(column.stored) or (column.stored == "VARCHAR" and column.whole))
    return column.name not in (time, target) and not column.nulls and (column.type == "text" or whole)


def _with_duplicates(
    con: "duckdb.DuckDBPyConnection", columns: Mapping[str, Column], column: Column, time: str, reason: str
) -> KeyChoice:
    duplicates = column.rows - _distinct(con, [column.name])
    if not duplicates:
        return KeyChoice(column.name, (column.name,), f"{reason}; unique in all {column.rows:,} rows")
    newest = next(
        (c.name for c in columns.values() if c.type == "time" and c.name != time and INGESTED.search(c.name)), time
    )
    return KeyChoice(
        column.name,
        (column.name,),
        f"{reason}; {duplicates:,} rows repeat a key: the newest by {newest} is kept",
        duplicates,
        newest,
    )


def _combined(
    con: "duckdb.DuckDBPyConnection", columns: Mapping[str, Column], able: Sequence[Column], time: str, rows: int
) -> KeyChoice:
    """Return a key of the time and up to three columns, else of all values of a row."""
    name = ROW_KEY
    while name in columns:
        name += "_"
    able = [column for column in able if column.distinct > 1]
    able.sort(key=lambda c: (c.type != "text" and not IDENTIFIER.search(c.name), -c.distinct, c.name))
    parts = [column.name for column in able][:MOST_PARTS]
    for extra in chain.from_iterable(combinations(parts, size) for size in (1, 2, 3)):
        together = [time, *extra]
        enough = prod(columns[part].distinct for part in together) >= rows
        if enough and _distinct(con, together, SAMPLE) == min(rows, SAMPLE) and _distinct(con, together) == rows:
            return KeyChoice(name, tuple(together), f"no column is unique, but {', '.join(together)} are together")
    return KeyChoice(
        name, (), "no column is unique: a digest of the row without its outcome, and a number where rows are the same"
    )


def _distinct(con: "duckdb.DuckDBPyConnection", names: Sequence[str], first: int = 0) -> int:
    """Count the different combinations of values, of the `first` rows only if given."""
    within = f" WHERE rowid < {first}" if first else ""
    return int(
        scalar(con, f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(map(quoted, names))} FROM {ROWS}{within})")  # noqa: S608
    )


def target_name(columns: Mapping[str, Column], taken: Sequence[str], ask: Callable[[str], str] | None) -> Choice:
    """Return the column to predict: by its name, else the last column that can be one.

    Args:
        columns: All columns.
        taken: Columns with another role.
        ask: Asks a person, None if there is none.

    Raises:
        UnusableData: No column can be the target.
    """
    able = [
        c.name
        for c in columns.values()
        if c.name not in taken
        and c.type in ("number", "text")
        and c.distinct > 1
        and not (c.type == "text" and c.distinct > 50)
        and not (c.distinct > 50 and IDENTIFIER.search(c.name))
    ]
    if not able:
        raise UnusableData(
            "no column can be the target: each is constant, a time, or text with many values; name it: TARGET=column"
        )
    for pattern in (TARGET, TARGET_WORD):
        if named := [name for name in able if pattern.search(name)]:
            return Choice(named[-1], "by its name; not given as TARGET", sure=False)
    if ask and (answer := ask(f"Which column is to be predicted? [{able[-1]}] ")):
        require_column(columns, "TARGET", answer)
        return Choice(answer, "answered at the terminal")
    return Choice(able[-1], "the last column that can be one; not given as TARGET", sure=False)
