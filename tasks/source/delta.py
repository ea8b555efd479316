"""A Delta table, of which only the rows of a range are read. What decides whether a range has changed is the table's own log.

The log has the smallest and the largest value of each column in each file. So a range has changed if the files that can have its rows are
others: a new version of the table that is about other times leaves the partition fresh.
"""

import re
import threading
import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.flat import quoted
from configs.load import Model
from configs.settings import ROOT
from configs.source import Table
from tasks.errors import EvergreenError, SourceMismatch, SourceRefused, SourceUnavailable
from tasks.source import prefect_access
from tasks.source.database import MOMENT, DatabaseTable
from tasks.source.delta_log import DataFile, Log, require_readable
from tasks.source.dialects import Generic, Selection
from tasks.source.fetch import fetch
from tasks.source.moments import EARLIEST, latest
from tasks.source.queries import Queries
from tasks.source.remote import REFUSED
from tasks.source.secret_values import storage_options, variable, without_options
from tasks.source.stored_times import LOCAL, ZONED
from tasks.storage.personal import error_text

if TYPE_CHECKING:
    import pyarrow as pa

READ_SECONDS = 5
"""How long a version of the log is used, so that looking at all partitions of a model does not read it each time."""
VIEW = "delta"
_READ: dict[tuple[str, str | None], tuple[float, Log]] = {}
_LOCK = threading.Lock()


class DeltaTable(DatabaseTable):
    """A Delta table, see `SourceTable`. The library computes what a database would."""

    def __init__(self, model: Model, name: str, table: Table) -> None:
        super().__init__(model, name, table)
        self.place, self.seconds = table.place, table.timeout.total_seconds()

    def span(self) -> tuple[datetime, datetime] | None:
        """See `DatabaseTable.span`. From the log, if that has the times of all data files."""
        files = self._log_files()
        firsts, lasts = [f.first for f in files if f.first], [f.last for f in files if f.last]
        if len(firsts) == len(files) > 0 and min(firsts) >= EARLIEST and max(lasts) < latest(self.config):
            return min(firsts), max(
                lasts
            ) + MOMENT  # the log rounds down to milliseconds, which are in the same partition
        return super().span()

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether it has rows of a range, or rows before and after it. A table without `time` has always."""
        files = self._log_files()
        if files and all(file.first for file in files):
            return any(file.earliest < end for file in files) and any(file.latest >= start for file in files)
        return super().covers(start, end)

    def _log_files(self) -> list[DataFile]:
        if self.table.time is None:
            return []
        with self._queries() as queries:
            return self._files(queries)

    def _files(self, queries: Queries) -> list[DataFile]:
        session: Any = queries.con
        stored = queries.stored(queries.base(EARLIEST, EARLIEST)) if self.table.time else None
        files: list[DataFile] = session.log.files(self.table.time, stored)
        return files

    @contextmanager
    def _queries(self) -> Iterator[Queries]:
        limited = prefect_access.slot(self.table.connection) if self.table.connection else nullcontext()
        with self._errors(), limited:
            session: Any = Session(self._log())
            yield DeltaQueries(self.config, self.table, session, Delta())

    def _fetch(self, queries: Queries, selection: Selection, path: Path) -> None:
        fetch(queries.con, self, selection, path)

    @property
    def _address(self) -> str:
        address = str(self.table.delta)
        return address if "://" in address else str(ROOT / address)

    def _log(self) -> Log:
        """The log at its newest version."""
        import deltalake

        key, began = (self._address, self.table.connection), time.monotonic()
        read, log = _READ.get(key, (0.0, None))
        if log is None or began - read > READ_SECONDS:
            options = storage_options(self.table.connection, self.table.place)
            table = deltalake.DeltaTable(self._address, storage_options=options or None)
            require_readable(table, self.table.place)
            log = log if log and log.is_of(table) else Log(table)
            with _LOCK:  # a slow thread must not replace a newer log
                if _READ.get(key, (0.0, None))[0] <= began:
                    _READ[key] = began, log
                log = _READ[key][1]
        return log

    def _state(self, queries: Queries, start: datetime, end: datetime, is_cheap: bool = False) -> list[str]:
        """The data files that can have rows of a range, whatever `is_cheap`."""
        return [file.name for file in self._files(queries) if file.can_have(start, end)]

    def _is_of(self, queries: Queries, start: datetime, end: datetime, digest: str) -> bool:
        """Whether the version that was read has this fingerprint of a range."""
        return self._digest(queries, start, end) == digest

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
        text = re.sub(r"\x1b\[[0-9;]*m", "", error_text(self.config, error))
        text = without_options(" ".join(text.split()), self.table.connection)[:400].rstrip(".")
        kind, problem = type(error).__name__, f"{self.table.place}: {text}"
        own = (
            f"{variable(self.table.connection)} or the secret" if self.table.connection else "the worker's environment"
        )
        if kind == "TableNotFoundError" or "does not exist" in text:
            return SourceRefused(f"{problem}. Correct `delta` in model.yaml, or create the table")
        if re.search(REFUSED, text):
            return SourceRefused(f"{problem}. Correct the credentials in {own}, or grant the right to list and to read")
        if kind in ("TypeError", "ValueError") or re.search(
            r"failed to parse|Invalid .*config|Unable to .* endpoint", text
        ):
            return SourceRefused(f"{problem}. Correct the options of the storage in {own}")
        if kind in ("SchemaMismatchError", "ArrowInvalid") or "SchemaError" in text:
            return SourceMismatch(f"{problem}. Correct the table in model.yaml, or change the table")
        return SourceUnavailable(f"{problem}. Run it again when the storage is available")


class DeltaQueries(Queries):
    """The queries of a Delta table."""

    def base(self, start: datetime, end: datetime) -> str:
        """All rows of the table."""
        return f"SELECT * FROM {quoted(VIEW)}"  # noqa: S608


class Delta(Generic):
    """Delta in the place of a database: the library runs SQL on the table, and opens only the data files that can have such rows."""

    def __init__(self) -> None:
        super().__init__("deltalake")

    def column_types(self, con: Any, sql: str) -> dict[str, str]:
        """The columns of the table and their types. Each query has the same ones."""
        import pyarrow as pa

        schema = pa.schema(con.log.table.schema().to_arrow())
        return {field.name: _type_name(field.type) for field in schema}

    def select(self, sql: str, types: Mapping[str, str], declared: Mapping[str, str]) -> Selection:
        """The query itself: its columns have exact types."""
        return Selection(sql, {})


class Session:
    """As much of a connection and its cursor as is used, on one version of a table."""

    def __init__(self, log: Log) -> None:
        from deltalake import QueryBuilder

        self.log, self._builder = log, QueryBuilder().register(VIEW, log.table)
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
