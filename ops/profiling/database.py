"""A table of a database as the data of `make model FROM=connection:table`: its rows are read into a local file by the code of sources."""

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from configs.flat import literal, quoted
from configs.schema import ModelConfig
from configs.source import Table
from ops.profiling.values import Column, Data, UnusableData
from tasks.errors import SourceMismatch
from tasks.source.connections import Database
from tasks.source.dialects import EXACT, UNKNOWN
from tasks.source.extracts import new_extract
from tasks.source.fetch import fetch
from tasks.source.queries import Queries

ADDRESS = re.compile(r"([a-z][a-z0-9_]*):(?!//)([^:/\\]+)")
"""`FROM=` of a table: the name of a connection, and the name of a table."""
MOST_ROWS = 5_000_000
"""Rows up to which all are read. Of a larger table the newest ones are, for which `TIME=` must be given."""
TEXT_FORMATS = (
    *("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M"),
    *("%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y%m%d"),
)
"""Formats of times that are text and sort by time. Others cannot be compared with a range in the database."""
EPOCHS = {"to_timestamp({})": "epoch", "to_timestamp({} / 1e3)": "epoch_ms", "to_timestamp({} / 1e6)": "epoch_us"}
NO_MODEL = {
    "name": "unseen", "description": "", "partition": {"every": "D"}, "key": "-", "time": "--",
    "source": {"file": {"path": "-"}}, "target": {"column": "unseen", "delay": "0D"}, "features": {"numeric": ["---"]},
    "training": {"window": {"holdout": "1D"}, "candidates": {"x": {"estimator": "xgboost"}}}, "gate": {"floor": {"log_loss": 1}},
}  # fmt: skip
"""The config of a table that no model reads yet: none of its columns has a role."""


def read_table(connection: str, name: str, time: str = "") -> Data:
    """Read the rows of a table into a local file that is deleted when the process ends.

    Args:
        connection: Name of the connection: `EVERGREEN_CONNECTION_<NAME>`, or the Prefect secret, has the address.
        name: Name of the table, such as `sales.orders`.
        time: Column with the time of a row, empty if it is not known yet.

    Raises:
        UnusableData: The name is not valid, the table has no rows, or more than `MOST_ROWS` and no `time` is given.
        SourceRefused, SourceUnavailable: The database refuses the address, or does not answer.
    """
    given, config = f"{connection}:{name}", ModelConfig.model_validate(NO_MODEL)
    if not all(name.split(".")):
        raise UnusableData(
            f"FROM={given}: {name!r} is not the name of a table; write it as {connection}:orders or {connection}:sales.orders"
        )
    table = Table(connection=connection, table=name)
    path = new_extract(f"new-{connection}")
    try:
        return _extract(given, Database.of(config, table), config, table, time, path)
    except SourceMismatch as error:
        text = str(error).partition(". Correct the table in model.yaml")[0]
        raise UnusableData(
            f"FROM={given}: {text}; give a table or view, with its schema if that is not the default one"
        ) from None


def _extract(given: str, database: Database, config: ModelConfig, table: Table, time: str, path: Path) -> Data:
    """Write the rows of a table to a local file."""
    with database.session() as con:
        queries = Queries(config, table, con, database.dialect)
        sql = f"SELECT * FROM {'.'.join(map(quoted, str(table.table).split('.')))}"  # noqa: S608  (of FROM)
        types = queries.types(sql)
        ((rows,),) = queries.rows(f"SELECT count(*) FROM ({sql}) AS q")  # noqa: S608
        if not rows:
            raise UnusableData(f"FROM={given}: the table has no rows; give another one")
        if rows > MOST_ROWS:
            sql = _newest(sql, given, time, rows, types)
        print(f"Reading {min(rows, MOST_ROWS):,} of {rows:,} rows of {table.place} ...", file=sys.stderr)
        unclear = {
            column: "DOUBLE" if kind == EXACT else "VARCHAR"
            for column, kind in types.items()
            if kind in (EXACT, UNKNOWN)
        }
        typed = table.model_copy(update={"types": unclear})
        fetch(con, database, Queries(config, typed, con, database.dialect).selection(sql), path)
    return Data(given, (path,), is_csv=False, table=typed, older=max(0, rows - MOST_ROWS))


def _newest(sql: str, given: str, time: str, rows: int, types: Mapping[str, str]) -> str:
    if time not in types:
        raise UnusableData(
            f"FROM={given}: the table has {rows:,} rows, and the newest {MOST_ROWS:,} are looked at; give the column with their time as "
            f"TIME=. It has: {', '.join(types)}"
        )
    return f"{sql} ORDER BY {quoted(time)} DESC LIMIT {MOST_ROWS}"


def with_time(data: Data, column: Column) -> tuple[Data, Column]:
    """Return the data with the column of the rows' time and its format, and the column as the source of a model has it: a timestamp.

    Raises:
        UnusableData: The table stores it as text that does not sort by time.
    """
    if data.table is None:
        return data, column
    form = _stored_format(data.files[0], column)
    table = data.table.model_copy(update={"time": column.name, "time_format": form})
    if form is None:
        return replace(data, table=table), column
    return replace(data, table=table), replace(
        column, stored="TIMESTAMP WITH TIME ZONE", formats=(), sql=f"CAST({quoted(column.name)} AS TIMESTAMPTZ)"
    )


def _stored_format(extract: Path, column: Column) -> str | None:
    """Return the `time_format` of a column, None if its type is a time."""
    if "since 1970" in column.formats:
        return next(form for sql, form in EPOCHS.items() if sql.format(quoted(column.name)) == column.sql)
    if not column.formats:
        return None
    import duckdb

    name = f"CAST({quoted(column.name)} AS VARCHAR)"
    with duckdb.connect() as con:
        for form in TEXT_FORMATS:
            parsed = f"strftime(try_strptime({name}, {literal(form)}), {literal(form)})"
            rows = f"FROM read_parquet({literal(str(extract))}) WHERE {name} IS NOT NULL"
            query = f"SELECT count(*) {rows} AND {parsed} IS DISTINCT FROM {name}"  # noqa: S608
            if con.execute(query).fetchall() == [(0,)]:
                return form
    raise UnusableData(
        f"TIME={column.name}: the table stores it as text in the format {' or '.join(column.formats)}, which does not sort by time; give a "
        f"view of the database in which it is a timestamp, or text such as 2024-03-31 15:00:00"
    )


def source_table(data: Data, columns: Mapping[str, Column], numeric: set[str], texts: set[str]) -> dict[str, object]:
    """Return the table of a database as model.yaml has it, with a type for each column that needs one.

    Args:
        data: The data of a table.
        columns: All columns.
        numeric: Columns that are read as numbers by their role: features and the target.
        texts: Columns that are read as text by their role: key and categories.
    """
    assert data.table
    types = {
        name: "BIGINT" if kind == "DOUBLE" and columns[name].whole else kind
        for name, kind in data.table.types.items()
        if name not in numeric | texts
    }
    return {
        "connection": data.table.connection, "table": data.table.table, "time": data.table.time,
        **({"time_format": data.table.time_format} if data.table.time_format else {}),
        **({"types": types} if types else {}),
    }  # fmt: skip
