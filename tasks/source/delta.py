"""A Delta table, of which only the rows of a range are read. What decides whether a range has changed is the table's own log.

The log has the smallest and the largest value of each column in each file. So a range has changed if the files that can have its rows are
others: a new version of the table that is about other times leaves the partition fresh.
"""

import re
import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.load import Model
from configs.settings import ROOT
from configs.source import Table
from tasks.errors import EvergreenError, SourceMismatch, SourceRefused, SourceUnavailable
from tasks.source.database import DatabaseTable
from tasks.source.delta_log import ROUNDED, Log, require_readable
from tasks.source.dialects import Generic, Selection
from tasks.source.fetch import fetch
from tasks.source.moments import EARLIEST, latest
from tasks.source.queries import Queries
from tasks.source.remote import REFUSED
from tasks.source.secret_values import storage_options, without_options
from tasks.source.stored_times import LOCAL, ZONED
from tasks.storage.personal import error_text

if TYPE_CHECKING:
    import deltalake
    import pyarrow as pa

READ_SECONDS = 5
"""How long a version of the log is used, so that looking at all partitions of a model does not read it each time."""
VIEW = "delta"
_READ: dict[tuple[str, str | None], tuple[float, "Log"]] = {}


class DeltaTable(DatabaseTable):
    """A Delta table, see `SourceTable`. The library computes what a database would."""

    def __init__(self, model: Model, name: str, table: Table) -> None:
        super().__init__(model, name, table)
        self.place, self.seconds = table.place, table.timeout.total_seconds()

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
            files = self._log().files(self.table.time, queries.stored(queries.base(EARLIEST, EARLIEST)))
        ranges = [(file.first, file.last) for file in files if file.first and file.last]
        return ranges if len(ranges) == len(files) else []

    @contextmanager
    def _queries(self) -> Iterator[Queries]:
        with self._errors():
            table = self.table.model_copy(update={"table": VIEW})
            session: Any = Session(self._log().table)
            yield Queries(self.config, table, session, Delta())

    def _fetch(self, queries: Queries, selection: Selection, path: Path) -> None:
        fetch(queries.con, self, selection, path)

    @property
    def _address(self) -> str:
        address = str(self.table.delta)
        return address if "://" in address else str(ROOT / address)

    def _log(self) -> "Log":
        """The log at its newest version."""
        import deltalake

        key = self._address, self.table.connection
        read, log = _READ.get(key, (0.0, None))
        if log is None or time.monotonic() - read > READ_SECONDS:
            began, options = time.monotonic(), storage_options(self.table.connection, self.table.place)
            table = deltalake.DeltaTable(self._address, storage_options=options or None)
            require_readable(table, self.table.place)
            log = log if log and log.is_of(table) else Log(table)
            _READ[key] = began, log
        return log

    def _state(self, queries: Queries, start: datetime, end: datetime, is_cheap: bool = False) -> list[str]:
        """The data files that can have rows of a range, whatever `is_cheap`."""
        stored = queries.stored(queries.base(start, end)) if self.table.time else None
        return [file.name for file in self._log().files(self.table.time, stored) if file.can_have(start, end)]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate the errors of the library."""
        try:
            yield
        except (EvergreenError, CancelledError, AssertionError):
            raise
        except Exception as error:  # noqa: BLE001  (the library raises OSError, ValueError and classes of its own)
            raise self.translate(error) from None

    def translate(self, error: Exception) -> EvergreenError:
        """An error of the library as one that can be shown, with what to do."""
        kind, text = type(error).__name__, " ".join(error_text(self.config, error).split())[:400].rstrip(".")
        problem = f"{self.table.place}: {without_options(text, self.table.connection)}"
        if kind == "TableNotFoundError" or "does not exist" in text:
            return SourceRefused(f"{problem}. Correct `delta` in model.yaml, or create the table")
        if re.search(REFUSED, str(error)):
            return SourceRefused(
                f"{problem}. Correct the credentials of the storage, or grant the right to list and to read"
            )
        if kind in ("SchemaMismatchError", "ArrowInvalid") or "SchemaError" in text:
            return SourceMismatch(f"{problem}. Correct the table in model.yaml, or change the table")
        return SourceUnavailable(f"{problem}. Run it again when the storage is available")


class Delta(Generic):
    """Delta in the place of a database: the library runs SQL on the table, and opens only the data files that can have such rows."""

    def __init__(self) -> None:
        super().__init__("deltalake")

    def column_types(self, con: Any, sql: str) -> dict[str, str]:
        """The columns of the table and their types. Each query has the same ones."""
        import pyarrow as pa

        schema = pa.schema(con.table.schema().to_arrow())
        return {field.name: _type_name(field.type) for field in schema}

    def select(self, sql: str, types: Mapping[str, str], declared: Mapping[str, str]) -> Selection:
        """The query itself: its columns have exact types."""
        return Selection(sql, {})


class Session:
    """As much of a connection and its cursor as is used, on one version of a table."""

    def __init__(self, table: "deltalake.DeltaTable") -> None:
        from deltalake import QueryBuilder

        self.table, self._builder = table, QueryBuilder().register(VIEW, table)
        self._reader: Any = None

    def cursor(self) -> "Session":
        """Return a cursor, which is the session itself."""
        return self

    def execute(self, sql: str) -> None:
        """Run a query. Its result is read while it is used."""
        self._reader = self._builder.execute(sql)

    def fetch_record_batch(self) -> "pa.RecordBatchReader":
        """Return the result in batches."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_stream(self._reader)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows of a short result."""
        return [tuple(row.values()) for row in self.fetch_record_batch().read_all().to_pylist()]

    def close(self) -> None:
        """Do nothing: nothing is open but the result."""


def _type_name(kind: "pa.DataType") -> str:
    """DuckDB's name of a type, as far as it decides how a time is stored; else that of Arrow."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return ZONED if kind.tz else LOCAL
    return "DATE" if pa.types.is_date(kind) else str(kind)
