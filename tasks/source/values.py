"""SQL that reads one value of a column as text, as a number or as a time, and refuses a value that would be changed.

A refused value raises an error while DuckDB reads the row, so a row of another partition does no harm. `refusal` makes the message.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from configs.flat import literal, quoted
from tasks.source.csv_lines import find_line

FILE = "file of the row"
"""Column with a row's file in what `tables.Group.reader` returns."""
SEPARATOR = chr(31)
MARK = f"refused{SEPARATOR}"
EXACT = 2**53
"""Up to this number float64 has every whole number."""
FLOATS = {"DOUBLE": EXACT, "FLOAT": 2**24}
"""Types of floating point, with the number up to which they have every whole number."""
EMPTY = '"NULL"'
"""Type of a column without any value."""
SMALL = ("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER", "BOOLEAN", "DOUBLE", "FLOAT", EMPTY)
"""Types whose every value is a float64."""
LARGE = ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT")
ISO = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?"
ZONE = r"(Z| ?UTC|[+-](0\d|1[0-5])(:?[0-5]\d)?)"
"""Patterns of a time in ISO 8601, and of its zone. A zone needs a time of day. Names other than UTC are not read."""
NO_DIGITS = "'[_xXbB]'"
"""Pattern of what DuckDB reads as a number, but only Python writes so: 1_000, 0x10 and 0b11."""
NOT_A_NUMBER = "is not a number; correct it, leave it empty if it is missing, or declare the column as text"
A_FRACTION = (
    "is not a whole number, but model.yaml has the column in features.whole; correct it, or remove the column there"
)
TOO_LARGE = "is beyond the largest number of float64, 1.8e308; correct it"
ROUNDED = (
    "would be rounded, since numbers are float64, which has every whole number only up to 2^53; declare the column as text if it "
    "identifies something"
)
ISO_EXAMPLE = "2024-03-31T15:00:00+02:00"


def is_number(kind: str) -> bool:
    """Whether a type of DuckDB is a number, a boolean, or that of a column without any value."""
    return kind in (*SMALL, *LARGE) or kind.startswith("DECIMAL")


def is_integer(kind: str) -> bool:
    """Whether a type of DuckDB is an integer."""
    return kind.endswith(("INT", "INTEGER"))


def is_zoned(kind: str) -> bool:
    """Whether a type of DuckDB is a timestamp with time zone."""
    return kind.startswith("TIMESTAMP") and ("TZ" in kind or "ZONE" in kind)


def is_local(kind: str) -> bool:
    """Whether a type of DuckDB is a date, or a timestamp without time zone."""
    return kind == "DATE" or (kind.startswith("TIMESTAMP") and not is_zoned(kind))


def text_sql(name: str, kind: str, strict: bool = True) -> str:
    """A value as text. A whole number in floating point is `1` and not `1.0`: pandas writes integers so if one is missing.

    Args:
        name: The column.
        kind: Its type in DuckDB.
        strict: Refuse a whole number that has lost digits in floating point.
    """
    column = quoted(name)
    if kind not in FLOATS:
        return f"CAST({column} AS VARCHAR)"
    whole = f"isfinite({column}) AND {column} = trunc({column})"
    lost = "is a whole number in floating point that may have lost digits; store the column as text or as an integer"
    refused = f"WHEN {whole} THEN {refuse_sql(name, lost)} " if strict else ""
    exact = f"WHEN {whole} AND abs({column}) < {FLOATS[kind]} THEN CAST(CAST({column} AS BIGINT) AS VARCHAR)"
    return f"CASE {exact} {refused}ELSE CAST({column} AS VARCHAR) END"


def number_sql(name: str, kind: str, from_text: bool = False, whole: bool = False, file: str = quoted(FILE)) -> str:
    """A value as float64. Text that is no number, and a number that float64 does not have, are refused.

    Args:
        name: The column.
        kind: Its type in DuckDB.
        from_text: Whether text may be a number, as in a CSV file, or be empty if it is missing.
        whole: Refuse fractions.
        file: SQL of the file for the message.
    """
    column, value = quoted(name), f"TRY_CAST({quoted(name)} AS DOUBLE)"
    cases = {}
    if kind == "VARCHAR" and from_text:
        truth = f"lower(trim({column}))"
        cases[f"{column} = ''"] = "NULL"
        cases[f"{truth} IN ('true', 'false')"] = f"CAST({truth} = 'true' AS DOUBLE)"
        cases[f"{value} IS NULL OR contains({column}, '_')"] = refuse_sql(name, NOT_A_NUMBER, file)
        cases[rf"isinf({value}) AND regexp_matches({column}, '\d')"] = refuse_sql(name, TOO_LARGE, file)
    elif not is_number(kind):
        problem = f"is {kind} and must be a number; store the column as numbers, or declare it as text"
        return f"CASE WHEN {column} IS NULL THEN CAST(NULL AS DOUBLE) ELSE {refuse_sql(name, problem, file)} END"
    if kind not in SMALL:
        digits = rf" AND regexp_full_match(trim({column}), '[+-]?\d+(\.0*)?')" if kind == "VARCHAR" else ""
        same = f"coalesce(TRY_CAST({column} AS HUGEINT) = TRY_CAST({value} AS HUGEINT), false)"
        cases[f"abs({value}) >= {EXACT}{digits} AND NOT {same}"] = refuse_sql(name, ROUNDED, file)
    if whole:
        cases[f"{value} <> trunc({value})"] = refuse_sql(name, A_FRACTION, file)
    branches = "".join(f"WHEN {condition} THEN {result} " for condition, result in cases.items())
    return f"CASE WHEN {column} IS NULL THEN NULL {branches}ELSE {value} END" if cases else value


def table_integer_sql(name: str, kind: str) -> str:
    """Text of a CSV file as an integer, if all its values seem to be whole numbers. `1_000` and `0x10` are refused."""
    column = quoted(name)
    refused = refuse_sql(name, NOT_A_NUMBER)
    return f"CASE WHEN regexp_matches({column}, {NO_DIGITS}) THEN {refused} ELSE CAST({column} AS {kind}) END"


def stored_number_sql(name: str, kind: str) -> str:
    """A number as text for a digest: the same for an integer, for the same number in floating point, and for its text."""
    column = quoted(name)
    if kind in SMALL:
        return f"CAST(CAST({column} AS DOUBLE) AS VARCHAR)"
    value = f"TRY_CAST({column} AS DOUBLE)"
    exact = f"abs({value}) <= {EXACT} OR NOT isfinite({value})"
    return f"CASE WHEN {exact} THEN CAST({value} AS VARCHAR) ELSE CAST({column} AS VARCHAR) END"


def time_sql(name: str, kind: str, zone: str, time_format: str | None) -> str:
    """A value as a timestamp with time zone, null if it is no time.

    It raises no error, so that DuckDB can select the rows of a partition before it reads their other values.

    Args:
        name: The column.
        kind: Its type in DuckDB: a date, a timestamp or text.
        zone: The zone of a time that has none.
        time_format: Format of text, as in `strptime`; by default ISO 8601.
    """
    column, local = quoted(name), f"timezone({literal(zone)}, {{}})"
    if is_zoned(kind):
        return f"CAST({column} AS TIMESTAMPTZ)"
    if kind != "VARCHAR":
        return local.format(f"CAST({column} AS TIMESTAMP)")
    if time_format:
        parsed = f"try_strptime({column}, {literal(time_format)})"
        return parsed if has_zone(time_format) else local.format(parsed)
    return f"coalesce({local.format(iso_sql(name, zoned=False))}, {iso_sql(name, zoned=True)})"


def iso_sql(name: str, zoned: bool) -> str:
    """Text in ISO 8601 as a timestamp, null if it is none, or has a zone where it must not or the reverse."""
    text = f"trim({quoted(name)})"
    pattern = ISO.removesuffix("?") + ZONE if zoned else ISO
    parsed = f"TRY_CAST({text} AS {'TIMESTAMPTZ' if zoned else 'TIMESTAMP'})"
    return f"CASE WHEN regexp_full_match({text}, {literal(pattern)}) THEN {parsed} END"


def table_time_sql(name: str, kind: str, time_format: str | None) -> str:
    """Text of a CSV file as the kind of time that all its values seem to be. Another value is refused: nothing is guessed."""
    column, zoned = quoted(name), is_zoned(kind)
    value = f"try_strptime({column}, {literal(time_format)})" if time_format else iso_sql(name, zoned)
    others = "" if time_format else f" {'with' if zoned else 'without'} a zone, as the column's others seem to be"
    problem = f"is not a time{others}; {time_advice(time_format)}"
    return f"CASE WHEN {column} IS NOT NULL THEN coalesce({value}, {refuse_sql(name, problem)}) END"


def has_zone(time_format: str | None) -> bool:
    """Whether times of a format have their zone."""
    return bool(time_format) and ("%z" in str(time_format) or "%Z" in str(time_format))


def time_advice(time_format: str | None) -> str:
    """What to do about text that is no time."""
    if time_format:
        return f"write it in the format {time_format}, which model.yaml declares as `time_format`, or correct that"
    return f"write it in ISO 8601, such as {ISO_EXAMPLE}, or declare its format as `time_format` of the source in model.yaml"


def whole_sql(name: str, kind: str) -> str:
    """A whole number of any type as an integer. Another number is refused, and one that has lost digits in floating point."""
    column, limit = quoted(name), FLOATS.get(kind, EXACT)
    exact = f"abs({column}) < {limit} AND {column} = trunc({column})"
    refused = refuse_sql(name, "identifies a row and must be text or an integer, but is in floating point")
    return f"CASE WHEN {column} IS NULL THEN NULL WHEN {exact} THEN CAST({column} AS BIGINT) ELSE {refused} END"


def refuse_sql(name: str, problem: str, file: str = quoted(FILE)) -> str:
    """SQL that raises an error with the file, the column, the value and what is wrong with it."""
    parts = (file, literal(name), f"left(CAST({quoted(name)} AS VARCHAR), 100)", literal(problem))
    return f"error({literal(MARK)} || {f' || {literal(SEPARATOR)} || '.join(parts)})"


def refuse_column_sql(message: str, kind: str) -> str:
    """SQL of a column of a type that raises an error with this message when it is used."""
    return f"CASE WHEN {quoted(FILE)} IS NULL THEN CAST(NULL AS {kind}) ELSE error({literal(MARK + message)}) END"


def refusal(error: Exception, csv_files: Sequence[Path], show: Callable[[str, Any], Any]) -> str:
    """The message of an error that `refuse_sql` raised, with the line if it is in one of the CSV files; else empty.

    Args:
        error: The error.
        csv_files: The CSV files among those that were read.
        show: Returns what a message may have of a column's value.
    """
    _, mark, text = str(error).partition(MARK)
    if not mark:
        return ""
    if SEPARATOR not in text:
        return text
    file, name, rest = text.split(SEPARATOR, 2)
    value, problem = rest.rsplit(SEPARATOR, 1)  # the value may have a separator
    line = find_line(Path(file), name, value) if Path(file) in csv_files else 0
    return f"{file}:{f' line {line}:' if line else ''} column {name!r}: {show(name, value)!r} {problem}"
