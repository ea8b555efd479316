"""A Delta table in the place of a database: as much of a session as is used, with the SQL that the library runs on the table."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from configs.flat import quoted
from tasks.source.delta_log import Log
from tasks.source.dialects import Generic, Selection
from tasks.source.queries import Queries
from tasks.source.stored_times import LOCAL, ZONED

if TYPE_CHECKING:
    import pyarrow as pa

VIEW = "delta"


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
