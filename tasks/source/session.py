"""DuckDB sessions in which a model's tables are views. All source files are read through them. Their time zone is UTC.

A session can read the files of these tables and nothing else: no other file, no network, no extension, no environment variable.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from configs.flat import quoted, time_key_sql
from configs.load import Model
from configs.schema import TIME_KEY, ModelConfig
from configs.source import FLAT, Table
from tasks.errors import SourceMismatch, SourceUnavailable
from tasks.source.files import folder_columns, list_paths

if TYPE_CHECKING:
    import duckdb

PERMANENT = ("Permission denied", "No such file", "No files found", "404")
"""Parts of DuckDB's I/O errors that trying again does not fix."""


@contextmanager
def connect(
    model: Model, files: dict[str, list[Path]], cutoff: datetime | None = None, threads: int = 2
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Open a DuckDB session with the model's tables as views.

    Args:
        model: The model.
        files: Files of each table.
        cutoff: Hides rows and outcomes that became known later.
        threads: Threads of DuckDB.

    Raises:
        SourceUnavailable: the source does not answer, and trying again may help.
        SourceMismatch: any other error of DuckDB, such as SQL that reads a file that belongs to no table.
    """
    import duckdb

    outages = duckdb.IOException, duckdb.HTTPException, duckdb.ConnectionException
    con = duckdb.connect(config={"threads": threads})
    try:
        con.execute("SET TimeZone = 'UTC'")
        _restrict(con, [path for paths in files.values() for path in paths])
        for name, table in model.config.source.views.items():
            as_text, folders = text_columns(model.config), _folder_option(con, files[name])
            added = time_key_sql(model.config)
            con.execute(f'CREATE VIEW "{name}" AS {_view(name, table, files[name], cutoff, as_text, folders, added)}')
        yield con
    except duckdb.Error as error:
        message = f"{model.folder}: {_first_lines(error)}; read from {list_paths(files)}"
        if isinstance(error, duckdb.PermissionException):
            raise SourceMismatch(
                f"{message}. SQL can read only the files of `source` in model.yaml. Add a table with this path there, and use its name"
            ) from error
        if isinstance(error, outages) and not any(text in str(error) for text in PERMANENT):
            raise SourceUnavailable(f"{message}. Run it again when the source is available") from error
        raise SourceMismatch(
            f"{message}{_columns(con, error)}. Fix the file, or the SQL if the table has changed"
        ) from error
    finally:
        con.close()


def _restrict(con: "duckdb.DuckDBPyConnection", paths: list[Path]) -> None:
    """Let a session read these files only, and lock its settings, so that no SQL can change that."""
    con.execute(f"SET allowed_paths = [{_quoted_paths(paths)}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def _view(
    name: str,
    table: Table,
    files: list[Path],
    cutoff: datetime | None,
    as_text: Sequence[str] = (),
    folders: str = "",
    added: str = "",
) -> str:
    """The SQL of one table's view. With a `cutoff` it hides rows and outcomes that became known later.

    Columns `as_text` of a CSV are read as text. If DuckDB guessed their types, added rows could change them. `folders` is from
    `_folder_option`, `added` is SQL of further columns.
    """
    paths, types = _quoted_paths(files), ", ".join(f"'{column}': 'VARCHAR'" for column in as_text)
    reader = (
        f"read_csv([{paths}]{f', types={{{types}}}' if types else ''}{folders})"
        if _is_csv(files)
        else f"read_parquet([{paths}]{folders})"
    )
    base = f'FROM {reader} AS "{name}"'
    if cutoff is None:
        return f"SELECT *{added} {base}"
    moment = f"TIMESTAMPTZ '{cutoff.isoformat()}'"
    hidden = ", ".join(
        f'CASE WHEN {table.outcomes_known_at} <= {moment} THEN "{c}" END AS "{c}"' for c in table.outcomes
    )
    where = f" WHERE {table.known_at} <= {moment}" if table.known_at else ""
    return f"SELECT *{f' REPLACE ({hidden})' if hidden else ''}{added} {base}{where}"


def _quoted_paths(files: list[Path]) -> str:
    return ", ".join("'" + str(p).replace("'", "''") + "'" for p in files)


def _is_csv(files: list[Path]) -> bool:
    return bool(files) and any(suffix in files[0].name.lower() for suffix in (".csv", ".tsv", ".txt"))


def _folder_option(con: "duckdb.DuckDBPyConnection", files: list[Path]) -> str:
    """The option that keeps a file's own column if a folder such as `date=2024-03-01` has its name.

    Otherwise DuckDB replaces the column by the text in the folder's name: times would become dates.
    """
    if not (folders := folder_columns(files)):
        return ""
    reader, option = "read_csv" if _is_csv(files) else "read_parquet", ", hive_partitioning=false"
    columns = con.sql(f"FROM {reader}([{_quoted_paths(files)}]{option})").columns
    return option if folders & {name.lower() for name in columns} else ""


def text_columns(config: ModelConfig) -> tuple[str, ...]:
    """Columns of a flat file to read as text. Empty if the model has SQL, which determines the types."""
    if not config.source.file:
        return ()
    classes = (config.target.column,) if config.target.kind == "multiclass" else ()
    key = () if config.key == TIME_KEY else (config.key,)
    return (*key, *config.features.categorical, *config.groups, *classes)


def require_time(model: Model, files: dict[str, list[Path]]) -> None:
    """Require a time in every row of a flat file. A row without one would silently be in no partition.

    Raises:
        SourceMismatch: rows have no time. The message has their number and the first one's key.
    """
    key, time = quoted(model.config.key), quoted(model.config.time)
    query = f"SELECT count(*), min(CAST({key} AS VARCHAR)) FROM {FLAT} WHERE {time} IS NULL"  # noqa: S608  (from model.yaml)
    with connect(model, files) as con:
        count, first = con.execute(query).fetchall()[0]
    if count:
        raise SourceMismatch(
            f"{model.folder}: rows without {model.config.time!r} belong to no partition: {count:,} in {list_paths(files)}, such as "
            f"the one with {model.config.key} {first!r}; add the time, or use `tables` and exclude the rows in source.sql"
        )


def raw_sql(sql: str) -> str:
    """A query without its semicolon, so that it can be put in parentheses."""
    return f"\n{sql.strip().rstrip(';')}\n"


def _first_lines(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:7] if line.strip())


def _columns(con: "duckdb.DuckDBPyConnection", error: Exception) -> str:
    """The columns of the tables, for errors about a column or its type: DuckDB's message does not always have the column."""
    import duckdb

    if not isinstance(error, duckdb.BinderException | duckdb.ConversionException):
        return ""
    query = (
        "SELECT table_name || '(' || string_agg(column_name || ' ' || data_type, ', ' ORDER BY column_index) || ')' "
        "FROM duckdb_columns() WHERE NOT internal GROUP BY table_name ORDER BY table_name"
    )
    return f", which now have {', '.join(row[0] for row in con.execute(query).fetchall())}"
