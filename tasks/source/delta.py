"""A Delta table, of which only the rows of a range are read. What decides whether a range has changed is the table's own log.

The log has the smallest and the largest value of each column in each file. So a range has changed if the files that can have its rows are
others: a new version of the table that is about other times leaves the partition fresh.
"""

import re
import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.flat import literal, quoted
from configs.settings import ROOT, load_settings
from tasks.errors import EvergreenError, SourceMismatch, SourceRefused, SourceUnavailable
from tasks.source.database import DatabaseTable
from tasks.source.dialects import Generic, Selection
from tasks.source.moments import EARLIEST, latest
from tasks.source.queries import Queries
from tasks.source.remote import REFUSED
from tasks.source.secret_values import storage_options, without_options
from tasks.source.stored_times import ZONED, StoredTime
from tasks.storage.files import replacing
from tasks.storage.personal import error_text

if TYPE_CHECKING:
    import deltalake
    import duckdb

READ_SECONDS = 5
"""How long a version of the log is used, so that looking at all partitions of a model does not read it each time."""
ROUNDED = timedelta(milliseconds=1)
"""The log has times in milliseconds, rounded down."""
VIEW = "delta"
_READ: dict[tuple[str, str | None], tuple[float, "deltalake.DeltaTable"]] = {}


class DeltaTable(DatabaseTable):
    """A Delta table, see `SourceTable`. DuckDB computes what a database would."""

    def fingerprint(self, start: datetime, end: datetime) -> list[Any]:
        """Digest of the names and sizes of the data files that can have rows of a range."""
        with self._errors():
            self._log()
        return super().fingerprint(start, end)

    def span(self) -> tuple[datetime, datetime] | None:
        """The first and the last time of its rows that can be in a partition, None if there is none. From the log, if that has them."""
        ranges = self._ranges()
        if ranges and all(low >= EARLIEST and high < latest(self.config) for low, high in ranges):
            return min(low for low, _ in ranges), max(high for _, high in ranges)
        return super().span()

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether it has rows of a range, or rows before and after it. A table without `time` has always."""
        if ranges := self._ranges():
            return any(low < end for low, _ in ranges) and any(high + ROUNDED >= start for _, high in ranges)
        return super().covers(start, end)

    def _ranges(self) -> list[tuple[datetime, datetime]]:
        """The times of the first and the last row of each data file; empty if the log does not have those of each."""
        if self.table.time is None:
            return []
        with self._queries() as queries:
            stored = queries.stored(queries.base(EARLIEST, EARLIEST))
        ranges = [_range(file, stored, self.table.time) for file in _actions(self._log())]
        return [known for known in ranges if known] if all(ranges) else []

    @contextmanager
    def _queries(self) -> Iterator[Queries]:
        import duckdb

        with self._errors(), duckdb.connect(config={"threads": load_settings().threads}) as con:
            con.execute("SET TimeZone = 'UTC'")
            con.execute("SET preserve_insertion_order = false")
            con.register(VIEW, self._log().to_pyarrow_dataset())
            table = self.table.model_copy(update={"table": VIEW})
            session: Any = _Session(con)
            yield Queries(self.config, table, session, DuckDB())

    def _fetch(self, queries: Queries, selection: Selection, path: Path) -> None:
        casts = ", ".join(f"{value} AS {quoted(name)}" for name, value in selection.casts.items())
        replaced = f" REPLACE ({casts})" if casts else ""
        with replacing(path) as draft:
            queries.rows(
                f"COPY (SELECT *{replaced} FROM ({selection.sql})) TO {literal(str(draft))} (FORMAT parquet, COMPRESSION uncompressed)"  # noqa: S608
            )

    @property
    def _address(self) -> str:
        address = str(self.table.delta)
        return address if "://" in address else str(ROOT / address)

    def _log(self) -> "deltalake.DeltaTable":
        """The table at its newest version."""
        import deltalake

        key = self._address, self.table.connection
        read, table = _READ.get(key, (0.0, None))
        if table is None or time.monotonic() - read > READ_SECONDS:
            began = time.monotonic()
            table = deltalake.DeltaTable(
                self._address, storage_options=storage_options(self.table.connection, self.table.place) or None
            )
            _READ[key] = began, table
        return table

    def _state(self, queries: Queries, start: datetime, end: datetime, is_cheap: bool = False) -> list[str]:
        """The data files that can have rows of a range, whatever `is_cheap`."""
        stored = queries.stored(queries.base(start, end)) if self.table.time else None
        files = _actions(self._log())
        return sorted(
            f"{file['path']} {file['size_bytes']}"
            for file in files
            if stored is None or _has(file, stored, str(self.table.time), start, end)
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate the errors of the library, and of DuckDB while it reads through it."""
        try:
            yield
        except (EvergreenError, CancelledError, AssertionError):
            raise
        except Exception as error:
            if isinstance(error, RuntimeError) and "interrupted" in str(error):  # by a signal, see session.py
                raise CancelledError from error
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> EvergreenError:
        kind, text = type(error).__name__, " ".join(error_text(self.config, error).split())[:400].rstrip(".")
        problem = f"{self.table.place}: {without_options(text, self.table.connection)}"
        if kind == "TableNotFoundError" or "does not exist" in text:
            return SourceRefused(f"{problem}. Correct `delta` in model.yaml, or create the table")
        if "reader feature" in str(error) or kind == "DeltaProtocolError":
            return SourceMismatch(
                f"{problem}. This library cannot read tables with these features: remove them (deletion vectors: REORG TABLE ... APPLY "
                "(PURGE) and delta.enableDeletionVectors = false), or read the table by a database"
            )
        if re.search(REFUSED, str(error)):
            return SourceRefused(
                f"{problem}. Correct the credentials of the storage, or grant the right to list and to read"
            )
        if kind in ("BinderException", "ConversionException", "InvalidInputException", "ArrowInvalid"):
            return SourceMismatch(f"{problem}. Correct the table in model.yaml, or change the table")
        return SourceUnavailable(f"{problem}. Run it again when the storage is available")


class DuckDB(Generic):
    """DuckDB in the place of a database."""

    def __init__(self) -> None:
        super().__init__("duckdb")

    def column_types(self, con: Any, sql: str) -> dict[str, str]:
        """The columns of a query and their types."""
        rows = con.execute(f"DESCRIBE {sql}").fetchall()
        return {row[0]: ZONED if row[1] == "TIMESTAMP WITH TIME ZONE" else row[1] for row in rows}

    def select(self, sql: str, types: Mapping[str, str], declared: Mapping[str, str]) -> Selection:
        """The query itself: its columns have exact types."""
        return Selection(sql, {})


class _Session:
    """A connection of DuckDB whose cursors are itself, since another cursor does not see what is registered."""

    def __init__(self, con: "duckdb.DuckDBPyConnection") -> None:
        self.con = con

    def cursor(self) -> "_Session":
        return self

    def execute(self, sql: str) -> "_Session":
        self.con.execute(sql)
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.con.fetchall()

    def close(self) -> None:
        """The session is closed by who opened it."""


def _actions(table: "deltalake.DeltaTable") -> list[dict[str, Any]]:
    """The data files of a version, with the smallest and the largest value of each column."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return rows


def _has(file: Mapping[str, Any], stored: StoredTime, column: str, start: datetime, end: datetime) -> bool:
    """Whether a file can have rows of a range. A file of which the log does not tell it can."""
    known = _range(file, stored, column)
    return known is None or (known[0] < end and known[1] + ROUNDED >= start)


def _range(file: Mapping[str, Any], stored: StoredTime, column: str) -> tuple[datetime, datetime] | None:
    """The smallest and the largest time of a file's rows, None if the log does not have them."""
    partition = file.get(f"partition.{column}")
    low, high = file.get(f"min.{column}", partition), file.get(f"max.{column}", partition)
    if low is None or high is None:
        return None
    try:
        return stored.parse(low), stored.parse(high)
    except (ValueError, TypeError, OverflowError):
        return None
