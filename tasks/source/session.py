"""DuckDB sessions in which a model's tables are views. All source files are read through them. Their time zone is UTC.

Rows from elsewhere are in local files by then. A session can read the files of these tables and nothing else: no other file, no network,
no extension, no environment variable.
"""

import re
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from configs.flat import literal, quoted
from configs.load import Model
from configs.paths import folder_problem
from configs.schema import ModelConfig
from configs.source import Table
from tasks.errors import SourceMismatch, SourceUnavailable
from tasks.source.csv_lines import is_csv
from tasks.source.extracts import hold
from tasks.source.files import list_paths, path_pattern
from tasks.source.origins import origin
from tasks.source.tables import group_files
from tasks.source.values import refusal
from tasks.source.views import STORED, common_types, declared_columns, flat_view, table_view, text_columns
from tasks.storage.personal import error_text, hider

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
        SourceMismatch: any other error of DuckDB, such as SQL that reads a file of no table, or a folder with a personal value in its name.
    """
    import duckdb

    outages = duckdb.IOException, duckdb.HTTPException, duckdb.ConnectionException
    _refuse_personal_folders(model, files)
    con, problems = duckdb.connect(config={"threads": threads}), list[str]()
    try:
        con.execute("SET TimeZone = 'UTC'")
        # The statistics of a Parquet file ignore NaN, and by them DuckDB takes `isnan(x)` as always false.
        con.execute("SET disabled_optimizers = 'statistics_propagation'")
        _restrict(con, [path for paths in files.values() for path in paths])
        for name, table in model.config.source.views.items():
            flat = bool(model.config.source.file)
            groups = group_files(
                con, table, files[name], declared_columns(model.config) if flat else (), text_columns(model.config)
            )
            common = {} if flat else common_types(model.config, groups)
            problems += [f". {problem}" for _, problem in common.values() if problem]
            base = flat_view(model.config, table, groups) if flat else table_view(table, groups, common)
            con.execute(f"CREATE VIEW {quoted(name)} AS {_view(name, table, base, cutoff)}")
            if flat:
                con.execute(f"CREATE VIEW {quoted(STORED)} AS {flat_view(model.config, table, groups, stored=True)}")
        with hold(path for paths in files.values() for path in paths):
            yield con
    except SourceMismatch as error:
        if (text := _with_places(files, str(error))) == str(error):
            raise
        raise SourceMismatch(text) from error.__cause__
    except duckdb.Error as error:
        cause = None if model.config.personal else error  # a traceback has the causes of an error
        csv_files = [path for paths in files.values() for path in paths if is_csv(path)]
        if refused := refusal(error, csv_files, hider(model.config)):
            raise SourceMismatch(_with_places(files, f"{model.folder}: {refused}")) from cause
        text = f"{model.folder}: {_library_text(model.config, error)}; read from {list_paths(files)}"
        message = _with_places(files, text)
        if isinstance(error, duckdb.PermissionException):
            raise SourceMismatch(
                f"{message}. SQL can read only the files of `source` in model.yaml. Add a table with this path there, and use its name"
            ) from cause
        if isinstance(error, outages) and not any(text in str(error) for text in PERMANENT):
            raise SourceUnavailable(f"{message}. Run it again when the source is available") from cause
        action = "Fix the file" + ("" if model.config.source.file else ", or the SQL if the table has changed")
        columns = _columns(con, model.config, error)
        raise SourceMismatch(f"{message}{columns}{''.join(problems)}. {action}") from cause
    except RuntimeError as error:
        if "interrupted" in str(
            error
        ):  # by a signal, such as that of a flow run's limit, whose exception DuckDB replaces
            raise CancelledError from error
        raise
    finally:
        con.close()


def _with_places(files: dict[str, list[Path]], text: str) -> str:
    """A message with the places from which rows were fetched in place of the local files with them."""
    for path in (path for paths in files.values() for path in paths):
        text = text.replace(str(path), origin(path))
    return text


def _restrict(con: "duckdb.DuckDBPyConnection", paths: list[Path]) -> None:
    """Let a session read these files only, and lock its settings, so that no SQL can change that."""
    allowed = dict.fromkeys(name for path in paths for name in (str(path), path_pattern(path)))
    con.execute(f"SET allowed_paths = [{', '.join(map(literal, allowed))}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def _refuse_personal_folders(model: Model, files: dict[str, list[Path]]) -> None:
    """Require that no folder has a value of a personal column in its name: paths are in messages and records."""
    paths = (str(path) for paths in files.values() for path in paths)
    if problem := folder_problem(model.config.personal, paths):
        raise SourceMismatch(f"{model.folder}: {problem}")


def _view(name: str, table: Table, base: str, cutoff: datetime | None) -> str:
    """The SQL of one table's view. With a `cutoff` it hides rows and outcomes that became known later."""
    if cutoff is None:
        return base
    moment = f"TIMESTAMPTZ {literal(cutoff.isoformat())}"
    hidden = ", ".join(
        f"CASE WHEN {table.outcomes_known_at} <= {moment} THEN {quoted(c)} END AS {quoted(c)}" for c in table.outcomes
    )
    where = f" WHERE {table.known_at} <= {moment}" if table.known_at else ""
    return f"SELECT *{f' REPLACE ({hidden})' if hidden else ''} FROM ({base}) AS {quoted(name)}{where}"  # noqa: S608


def raw_sql(sql: str) -> str:
    """A query without its semicolon, so that it can be put in parentheses."""
    return f"\n{sql.strip().rstrip(';')}\n"


def _library_text(config: ModelConfig, error: Exception) -> str:
    """The start of DuckDB's message, without its advice, which is about options that model.yaml does not have.

    Only class, line and column if the model has personal columns: the message may quote any value.
    """
    text = str(error)
    if not config.personal:
        own = re.split(r"\bPossible (?:fix|solution)", text, flags=re.IGNORECASE)[0]
        return " ".join(line.strip() for line in own.splitlines()[:7] if line.strip())
    line = re.match(r"[\w ]+: CSV Error on Line: (\d+)\n", text)
    cast = re.search(r".* from source column (\w+)", text, re.DOTALL)
    missing = re.match(r'Binder Error: Referenced column "(.+?)" not found', text)
    column = cast[1] if cast and cast[1] in (*config.columns, config.target.column) else missing[1] if missing else ""
    place = f" in line {line[1]}" if line else ""
    return f"DuckDB's {error_text(config, error)}{place}{f' in column {column}' if column else ''}"


def _columns(con: "duckdb.DuckDBPyConnection", config: ModelConfig, error: Exception) -> str:
    """The columns of the tables, for errors about a column or its type: DuckDB's message does not always have the column.

    Not if the model has personal columns: a CSV file without a header has values in their place.
    """
    import duckdb

    if config.personal or not isinstance(error, duckdb.BinderException | duckdb.ConversionException):
        return ""
    query = (
        "SELECT table_name || '(' || string_agg(column_name || ' ' || data_type, ', ' ORDER BY column_index) || ')' "
        "FROM duckdb_columns() WHERE NOT internal AND table_name <> $1 GROUP BY table_name ORDER BY table_name"
    )
    return f", which now have {', '.join(row[0] for row in con.execute(query, [STORED]).fetchall())}"
