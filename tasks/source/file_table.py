"""A table of files, see `SourceTable`."""

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from configs.load import Model
from configs.source import Table
from tasks.source.files import file_starts, find_files, list_files
from tasks.storage.files import digest_file
from tasks.storage.partitions import containing, next_start


class FileTable:
    """Local Parquet or CSV files."""

    def __init__(self, model: Model, name: str, table: Table) -> None:
        self.config, self.table, self.is_ranged = model.config, table, table.is_ranged
        self._zone = model.config.partition.timezone
        self.expected = f"no file for it (expected {table.path})"
        start = f" for the start of a period (every: {table.every})" if table.every else ""
        named = "" if model.config.source.file else f" of table {name!r}"
        self.empty = f"no file{named} matches {table.path}{start}"

    def span(self) -> tuple[datetime, datetime] | None:
        """The start of its first file and the end of its last, None if it has no dated file."""
        starts = file_starts(self.table)
        if not starts or self.table.every is None:
            return None
        zone = ZoneInfo(self._zone)
        return starts[0].replace(tzinfo=zone), next_start(starts[-1], self.table.every).replace(tzinfo=zone)

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether it has a file for a range."""
        return bool(self.files(start, end))

    def fingerprint(self, start: datetime, end: datetime) -> list[tuple[str, int, str]]:
        """Name, size and digest of each file."""
        stats = [(path, path.stat()) for path in self.files(start, end)]
        return [(path.name, stat.st_size, _digest(path, stat.st_size, stat.st_mtime_ns)) for path, stat in stats]

    def files(self, start: datetime, end: datetime) -> list[Path]:
        """The files of a range, all if they are not dated."""
        return find_files(self.table, self._zone, start, end)

    def arrived(self, until: datetime) -> tuple[list[Any], datetime | None]:
        """Path, size and time of the last change of each file that starts before a moment, and the end of what they can have.

        Without dates, a row is at most `source.ahead` after its file.
        """
        config, zone = self.config, ZoneInfo(self._zone)
        local = until.astimezone(zone).replace(tzinfo=None)
        listed = [(start, path) for start, path in list_files(self.table) if start is None or start < local]
        files, starts = [_state(path) for _, path in listed], [start for start, _ in listed if start]
        if self.table.every:
            return files, next_start(max(starts), self.table.every).replace(tzinfo=zone) if starts else None
        changed = max((path.stat().st_mtime for _, path in listed), default=0.0)
        return files, containing(config, datetime.fromtimestamp(changed, UTC) + config.source.ahead).end

    def unplaced(self) -> str:
        """Nothing: rows of files are in them, whatever their time."""
        return ""


def _state(path: Path) -> tuple[str, int, int]:
    """Path, size and time of the last change of a file."""
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """A file's digest. This process computes it again only if size or time have changed."""
    return digest_file(path)
