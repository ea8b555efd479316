"""A Delta table, of which only the rows of a range are read. What decides whether a range has changed is the table's own log.

The log has the smallest and the largest value of each column in each file. So a range has changed if the files that can have its rows are
others: a new version of the table that is about other times leaves the partition fresh.
"""

import threading
import time
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.load import Model
from configs.source import Table
from tasks.errors import EvergreenError, SourceMismatch, SourceRefused, SourceUnavailable
from tasks.source import prefect_access
from tasks.source.database import MOMENT, DatabaseTable
from tasks.source.delta_log import DataFile, Log, delta_address, require_readable
from tasks.source.delta_session import Delta, DeltaQueries, Session
from tasks.source.dialects import Selection
from tasks.source.fetch import fetch
from tasks.source.moments import EARLIEST, latest
from tasks.source.queries import Queries
from tasks.source.secret_values import storage_options
from tasks.source.storage_errors import storage_problem
from tasks.storage.personal import error_text

if TYPE_CHECKING:
    pass

READ_SECONDS = 5
"""How long a version of the log is used, so that looking at all partitions of a model does not read it each time."""
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
        with self._errors(), prefect_access.slot(self.table.connection):
            session: Any = Session(self._log())
            yield DeltaQueries(self.config, self.table, session, Delta())

    def _fetch(self, queries: Queries, selection: Selection, path: Path) -> None:
        fetch(queries.con, self, selection, path)

    @property
    def _address(self) -> str:
        return delta_address(str(self.table.delta))

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
        text = error_text(self.config, error)
        kind, shown, action = storage_problem(error, text, self.table.connection)
        if type(error).__name__ in ("SchemaMismatchError", "ArrowInvalid") or "SchemaError" in text:
            return SourceMismatch(f"{self.place}: {shown}. Correct the table in model.yaml, or change the table")
        raised = SourceUnavailable if kind == "unavailable" else SourceRefused
        return raised(f"{self.place}: {shown}. {action}")
