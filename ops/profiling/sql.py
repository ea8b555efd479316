"""The SQL of a model whose files need it: columns with other names, values that are converted, a key that is made, duplicates."""

from collections.abc import Mapping, Sequence

from configs.flat import literal, quoted
from ops.profiling.column_types import ISO, text_time_sql
from ops.profiling.values import Column, KeyChoice, TargetChoice

TABLE = "rows"


def time_expression(column: Column, is_csv: bool, table_format: str | None, zone: str) -> str:
    """Return SQL for a timestamp with time zone as the view of a table has the column.

    A CSV file's times in ISO 8601, or in the format of the table, are times there already. A time without zone is local to `zone`.
    """
    name = quoted(column.name)
    if column.stored != "VARCHAR":
        if column.formats or "ZONE" in column.stored:
            return column.sql
        return f"timezone({literal(zone)}, CAST({name} AS TIMESTAMP))"
    if is_csv and len(column.formats) == 1 and column.formats[0] in (ISO, table_format) and not column.unreadable:
        named = f"typeof({name}) = 'TIMESTAMP WITH TIME ZONE'"
        return f"CASE WHEN {named} THEN CAST({name} AS TIMESTAMPTZ) ELSE timezone({literal(zone)}, CAST({name} AS TIMESTAMP)) END"
    return text_time_sql(column.name, column.formats).replace("timezone('UTC',", f"timezone({literal(zone)},")


def number_expression(column: Column) -> str:
    """Return SQL for float64. Text that is no number is null."""
    name = quoted(column.name)
    if column.stored == "VARCHAR":
        return column.sql if column.unreadable else f"TRY_CAST({name} AS DOUBLE)"
    return f"CAST({name} AS DOUBLE)"


def outcome_expression(column: Column, target: TargetChoice) -> str:
    """Return SQL for the outcome: 0 or 1, the text of a class, or a number."""
    name = quoted(column.name)
    if target.kind == "regression":
        return number_expression(column)
    if target.kind == "multiclass" or not target.positive:
        return name
    text = rf"regexp_replace(CAST({name} AS VARCHAR), '^(-?\d+)\.0$', '\1')"
    return f"CASE WHEN {name} IS NOT NULL THEN CAST({text} = {literal(target.positive)} AS INTEGER) END"


def key_expression(
    key: KeyChoice, columns: Mapping[str, Column], time: str, time_sql: str, left_out: Sequence[str]
) -> str:
    """Return SQL for the key as text.

    Args:
        key: How a row is identified.
        columns: All columns.
        time: The column with the time.
        time_sql: Its SQL.
        left_out: Columns that may change later, such as the outcome: they are not part of a digest.
    """
    if key.columns:
        return " || '-' || ".join(_as_text(columns[name], time, time_sql) for name in key.columns)
    own = [
        name for name, column in columns.items() if name not in left_out and column.type in ("number", "text", "time")
    ]
    texts = ", ".join(f"coalesce(CAST({quoted(name)} AS VARCHAR), '')" for name in own)
    digest = f"md5(concat_ws('|', {texts}))"
    return f"{digest} || '-' || row_number() OVER (PARTITION BY {digest} ORDER BY {', '.join(map(quoted, left_out)) or '1'})"


def _as_text(column: Column, time: str, time_sql: str) -> str:
    if column.name == time:
        return f"strftime({time_sql}, '%Y-%m-%dT%H:%M:%S.%f')"
    name = quoted(column.name)
    return (
        f"CAST(CAST({name} AS BIGINT) AS VARCHAR)"
        if column.stored in ("DOUBLE", "FLOAT")
        else f"CAST({name} AS VARCHAR)"
    )


def source_sql(model: str, selects: Mapping[str, str], time_sql: str, kept: str) -> str:
    """Return the text of source.sql. `selects` has the SQL of each column by its name in model.yaml."""
    columns = ",\n    ".join(f"{sql} AS {quoted(name)}" for name, sql in selects.items())
    return (
        f"-- {model}: key, time and features of [$start, $end). DuckDB SQL, written by `make model FROM=`.\n"
        f"SELECT\n    {columns}\nFROM {TABLE}\nWHERE {time_sql} >= $start AND {time_sql} < $end{kept}\n"
    )


def labels_sql(
    model: str, key: tuple[str, str], outcome: tuple[str, str], known_at: str, time_sql: str, kept: str, is_known: str
) -> str:
    """Return the text of labels.sql. `key` and `outcome` are a name in model.yaml and its SQL."""
    inner = f"{key[1]} AS {quoted(key[0])}, {outcome[1]} AS {quoted(outcome[0])}, {known_at} AS known_at"
    return (
        f"-- {model}: key, outcome and known_at of the rows of [$start, $end). Rows whose outcome is not known yet are left out.\n"  # noqa: S608
        f"SELECT * FROM (\n    SELECT {inner}\n    FROM {TABLE}\n    WHERE {time_sql} >= $start AND {time_sql} < $end{kept}\n)\n"
        f"WHERE {quoted(outcome[0])} IS NOT NULL AND known_at IS NOT NULL{is_known}\n"
    )


def newest_only(key: KeyChoice, order: Sequence[str]) -> str:
    """Return SQL that keeps one row of each key: the newest one. Empty if there are no duplicates."""
    if not key.duplicates:
        return ""
    columns = [f"{quoted(key.newest_by)} DESC NULLS LAST"] if key.newest_by else []
    columns += [f"{quoted(name)} DESC NULLS LAST" for name in order if name != key.newest_by]
    return f"\nQUALIFY row_number() OVER (PARTITION BY {', '.join(map(quoted, key.columns))} ORDER BY {', '.join(columns)}) = 1"
