"""The log of a Delta table: which data files a version has, and the times of their rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from configs.database import EPOCHS
from configs.settings import ROOT
from tasks.errors import SourceMismatch
from tasks.source.stored_times import NEAR, ZONED, StoredTime

if TYPE_CHECKING:
    import deltalake

ROUNDED = timedelta(milliseconds=1)
"""The log has times in milliseconds, rounded down."""
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
READABLE = {"timestampNtz"}
"""Features of a table, beyond those of version 1, that are read."""


def delta_address(given: str) -> str:
    """Return the address of a table. A folder in model.yaml is relative to the repository."""
    return given if "://" in given else str(ROOT / given)


@dataclass(frozen=True)
class DataFile:
    """A data file of a version.

    Attributes:
        name: Its path and size.
        first, last: The times of its first and last row, None if the log does not have them.
        earliest, latest: Limits of these times: where clocks are changed, a local time has two meanings.
    """

    name: str
    first: datetime | None = None
    last: datetime | None = None
    earliest: datetime = FIRST
    latest: datetime = LAST

    def can_have(self, start: datetime, end: datetime) -> bool:
        """Whether it can have rows of a range."""
        return self.earliest < end and self.latest >= start


class Log:
    """One version of a table. Its data files are listed once."""

    def __init__(self, table: "deltalake.DeltaTable") -> None:
        self.table = table
        self._files: dict[tuple[str | None, StoredTime | None], list[DataFile]] = {}

    def is_of(self, table: "deltalake.DeltaTable") -> bool:
        """Whether it is of this table at its version."""
        mine, other = self.table, table
        return (mine.metadata().id, mine.version()) == (other.metadata().id, other.version())

    def files(self, column: str | None, stored: StoredTime | None) -> list[DataFile]:
        """The data files, with the times that a column has in them, sorted."""
        import pyarrow as pa

        if (column, stored) not in self._files:
            listed = pa.table(self.table.get_add_actions(flatten=True))
            wanted = {"path", "size_bytes", *(f"{kind}.{column}" for kind in ("min", "max", "partition"))}
            rows = listed.select([name for name in listed.column_names if name in wanted]).to_pylist()
            self._files[column, stored] = sorted(
                (_data_file(row, column, stored) for row in rows), key=lambda file: file.name
            )
        return self._files[column, stored]


def _data_file(row: Mapping[str, Any], column: str | None, stored: StoredTime | None) -> DataFile:
    name, partition = f"{row['path']} {row['size_bytes']}", row.get(f"partition.{column}")
    low, high = row.get(f"min.{column}", partition), row.get(f"max.{column}", partition)
    if stored is None or low is None or high is None:
        return DataFile(name)
    wider = timedelta(0) if stored.form == ZONED or stored.form in EPOCHS else NEAR
    try:
        first, last = stored.parse(low).astimezone(UTC), stored.parse(high).astimezone(UTC)
        return DataFile(name, first, last, first - wider, last + wider + ROUNDED)
    except (ValueError, TypeError, OverflowError):
        return DataFile(name)


def require_readable(table: "deltalake.DeltaTable", place: str) -> None:
    """Refuse a table with features that the library may overlook, since deleted rows would be read, or none.

    Raises:
        SourceMismatch: it has such a feature.
    """
    protocol = table.protocol()
    features = sorted({*(protocol.reader_features or ())} - READABLE)
    if protocol.min_reader_version == 2:
        features.append("columnMapping")
    if features:
        raise SourceMismatch(
            f"{place}: has the reader features {', '.join(features)}, with which it cannot be read here. Remove them (deletion vectors: "
            "REORG TABLE ... APPLY (PURGE) and delta.enableDeletionVectors = false), or read the table by a database"
        )
