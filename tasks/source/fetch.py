"""Fetch the rows of a query from a database into a local file, batch by batch."""

import time
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from configs.flat import literal, quoted
from configs.schema import ModelConfig
from configs.settings import load_settings
from tasks.errors import EvergreenError, SourceMismatch, SourceUnavailable
from tasks.source.dialects import Selection
from tasks.storage.files import replacing
from tasks.storage.personal import error_text

if TYPE_CHECKING:
    import pyarrow as pa
    from adbc_driver_manager.dbapi import Connection


class Place(Protocol):
    """What rows are fetched from, for messages and limits."""

    @property
    def config(self) -> ModelConfig:
        """Config of the model."""
        ...

    @property
    def place(self) -> str:
        """Name of the table and of its place."""
        ...

    @property
    def seconds(self) -> float:
        """Longest time of a query."""
        ...

    def translate(self, error: Exception) -> EvergreenError:
        """An error of the library as one that can be shown."""
        ...


def fetch(con: "Connection", database: Place, selection: Selection, path: Path) -> None:
    """Write the rows of a query to a Parquet file. In memory are a few batches. If it fails, there is no file.

    Raises:
        SourceUnavailable: the connection was lost, or the query took too long.
        SourceMismatch: a value is not of its column's type.
    """
    with replacing(path) as draft:
        columns = f"* {_without_mark(selection)}"
        _stream(
            con,
            database,
            selection,
            f"COPY (SELECT {columns} FROM reader{_where(selection)}) TO {literal(str(draft))} (FORMAT parquet, COMPRESSION uncompressed)",  # noqa: S608
        )


def digest_rows(con: "Connection", database: Place, selection: Selection, names: list[str]) -> list[Any]:
    """The number of rows of a query and an order-independent digest of them, for a database that cannot compute one."""
    columns = ", ".join(map(quoted, names))
    return _stream(
        con,
        database,
        selection,
        f"SELECT count(*), CAST(sum(hash({columns})::HUGEINT) AS VARCHAR) FROM reader{_where(selection)}",  # noqa: S608
    )


def _stream(con: "Connection", database: Place, selection: Selection, sql: str) -> list[Any]:
    """Run SQL in DuckDB on the batches of a query, which are the table `reader`, and return its first row."""
    import duckdb
    import pyarrow as pa

    errors: list[EvergreenError] = []
    with closing(con.cursor()) as cursor, duckdb.connect(config={"threads": load_settings().threads}) as local:
        cursor.execute(selection.sql)
        batches = cursor.fetch_record_batch()
        _require_types(database, selection, batches.schema)
        reader = pa.RecordBatchReader.from_batches(batches.schema, _guarded(batches, database, errors))
        local.execute("SET TimeZone = 'UTC'")
        local.execute("SET preserve_insertion_order = false")
        local.register("reader", reader)
        try:
            return list(local.execute(sql).fetchall()[0])
        except duckdb.Error as error:
            if errors:
                raise errors[0] from None
            cause = None if database.config.personal else error
            text = " ".join(error_text(database.config, error).split())
            raise SourceMismatch(
                f"{database.place}: a value is not as declared: {text}. Correct `types` or `time_format` in model.yaml, or the value"
            ) from cause
        except RuntimeError as error:
            if "interrupted" in str(error):  # by a signal, see session.py
                raise CancelledError from error
            raise


def _guarded(
    batches: "pa.RecordBatchReader", database: Place, errors: list[EvergreenError]
) -> Iterator["pa.RecordBatch"]:
    """The batches of a query. An error is kept in `errors`, since DuckDB replaces it; a query may take only so long."""
    end = time.monotonic() + database.seconds
    try:
        for batch in batches:
            yield batch
            if time.monotonic() > end:
                errors.append(database.translate(OSError("statement timeout of the reader")))
                raise SourceUnavailable(str(errors[0]))
    except OSError as error:
        text = _named_column(str(error), batches.schema.names)
        errors.append(database.translate(OSError(text)))
        raise


def _named_column(text: str, names: list[str]) -> str:
    """A message of SQLite's driver with the name of the column in place of its number."""
    head, mark, rest = text.partition("Type mismatch in column ")
    number, _, end = rest.partition(":")
    return f"{head}{mark}{names[int(number)]!r}:{end}" if mark and number.isdigit() else text


def _require_types(database: Place, selection: Selection, schema: "pa.Schema") -> None:
    """Refuse columns that arrive with other types, since a value of SQLite's first rows is of another one."""
    for name, kind in (selection.arrow or {}).items():
        own = str(schema.field(name).type)
        if own != kind:
            raise SourceMismatch(
                f"{database.place}: column {name!r} has values of another type ({own} instead of {kind}). Correct them, or declare the "
                f"column in `types`"
            )


def _without_mark(selection: Selection) -> str:
    """DuckDB's modifiers of `*`: without the mark of the first row, and with casts."""
    mark = f"EXCLUDE ({selection.where.rpartition(' = ')[0]}) " if selection.where else ""
    casts = ", ".join(f"{value} AS {quoted(name)}" for name, value in selection.casts.items())
    return f"{mark}{f'REPLACE ({casts})' if casts else ''}"


def _where(selection: Selection) -> str:
    return f" WHERE {selection.where}" if selection.where else ""
