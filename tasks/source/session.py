"""A DuckDB session that sees a model's tables as views: the only way that source files are opened. Its time zone is UTC."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from configs.flat import quoted
from configs.load import Model
from configs.schema import ModelConfig
from configs.source import FLAT, Table
from tasks.errors import SourceMismatch, SourceUnavailable
from tasks.source.files import listing

if TYPE_CHECKING:
    import duckdb

LASTING = ("Permission denied", "No such file", "No files found", "404")
"""What DuckDB says of files that will not be there in a moment either."""


@contextmanager
def connect(
    model: Model, files: dict[str, list[Path]], cut: datetime | None = None, threads: int = 2
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A DuckDB session with the model's tables as views; with `cut`, as they were known at that moment."""
    import duckdb

    outages = duckdb.IOException, duckdb.HTTPException, duckdb.ConnectionException
    con = duckdb.connect(config={"threads": threads})
    try:
        con.execute("SET TimeZone = 'UTC'")
        for name, table in model.config.source.views.items():
            con.execute(f'CREATE VIEW "{name}" AS {_view(name, table, files[name], cut, text_columns(model.config))}')
        yield con
    except duckdb.Error as error:
        if isinstance(error, outages) and not any(sign in str(error) for sign in LASTING):
            raise SourceUnavailable(
                f"{model.folder}: {_first_lines(error)}; read from {listing(files)}. Run the same again when it answers"
            ) from error
        told = f"{model.folder}: {_first_lines(error)}; read from {listing(files)}{_columns(con, error)}"
        raise SourceMismatch(f"{told}. Mend the file, or the SQL if the table has changed") from error
    finally:
        con.close()


def _view(name: str, table: Table, files: list[Path], cut: datetime | None, as_text: Sequence[str] = ()) -> str:
    """The SQL of one table, its unknown outcomes and rows hidden when there is a `cut`.

    Columns `as_text` of a CSV are not guessed at: a row that is added must not make another type of them.
    """
    paths = ", ".join("'" + str(p).replace("'", "''") + "'" for p in files)
    text = bool(files) and any(sign in files[0].name.lower() for sign in (".csv", ".tsv", ".txt"))
    types = ", ".join(f"'{column}': 'VARCHAR'" for column in as_text)
    reader = f"read_csv([{paths}]{f', types={{{types}}}' if types else ''})" if text else f"read_parquet([{paths}])"
    base = f'FROM {reader} AS "{name}"'
    if cut is None:
        return f"SELECT * {base}"
    moment = f"TIMESTAMPTZ '{cut.isoformat()}'"
    hidden = ", ".join(
        f'CASE WHEN {table.outcomes_known_at} <= {moment} THEN "{c}" END AS "{c}"' for c in table.outcomes
    )
    where = f" WHERE {table.known_at} <= {moment}" if table.known_at else ""
    return f"SELECT *{f' REPLACE ({hidden})' if hidden else ''} {base}{where}"


def text_columns(config: ModelConfig) -> tuple[str, ...]:
    """Columns of a flat file that are text whatever they look like; none where SQL says what they are."""
    if not config.source.file:
        return ()
    classes = (config.target.column,) if config.target.kind == "multiclass" else ()
    return (config.key, *config.features.categorical, *config.groups, *classes)


def refuse_undated(model: Model, files: dict[str, list[Path]]) -> None:
    """Hold a flat file to have a time in every row: one without would be in no partition, and nobody would miss it.

    Raises:
        SourceMismatch: naming how many have none, and the first one's key.
    """
    key, time = quoted(model.config.key), quoted(model.config.time)
    query = f"SELECT count(*), min(CAST({key} AS VARCHAR)) FROM {FLAT} WHERE {time} IS NULL"  # noqa: S608  (from model.yaml)
    with connect(model, files) as con:
        count, first = con.execute(query).fetchall()[0]
    if count:
        raise SourceMismatch(
            f"{model.folder}: {count:,} rows of {listing(files)} have no {model.config.time!r}, such as the one with "
            f"{model.config.key} {first!r}, and so belong to no partition; give them a time, or name `tables` and leave them out "
            f"in source.sql"
        )


def raw_sql(sql: str) -> str:
    """A query that can stand in brackets."""
    return f"\n{sql.strip().rstrip(';')}\n"


def _first_lines(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:7] if line.strip())


def _columns(con: "duckdb.DuckDBPyConnection", error: Exception) -> str:
    """What the tables hold, where a column or its type was the trouble; DuckDB does not always say which."""
    import duckdb

    if not isinstance(error, duckdb.BinderException | duckdb.ConversionException):
        return ""
    query = (
        "SELECT table_name || '(' || string_agg(column_name || ' ' || data_type, ', ' ORDER BY column_index) || ')' "
        "FROM duckdb_columns() WHERE NOT internal GROUP BY table_name ORDER BY table_name"
    )
    return f", which now hold {', '.join(row[0] for row in con.execute(query).fetchall())}"
