"""Tables of files, see `SourceTable`."""

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from configs.load import Model
from configs.paths import any_date, parse_date
from configs.source import Table
from tasks.source.extracts import hold
from tasks.source.files import find_files, list_files
from tasks.source.remote import RemoteFile, RemoteFiles
from tasks.storage.files import digest_file
from tasks.storage.partitions import containing, floor, next_start


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
        starts = sorted({start for start, _ in self._listed() if start})
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
        listed = [(start, file) for start, file in self._listed() if start is None or start < local]
        files, starts = [self._state(file) for _, file in listed], [start for start, _ in listed if start]
        if self.table.every:
            return files, next_start(max(starts), self.table.every).replace(tzinfo=zone) if starts else None
        return files, containing(config, self._changed([file for _, file in listed]) + config.source.ahead).end

    def unplaced(self) -> str:
        """Nothing: rows of files are in them, whatever their time."""
        return ""

    def _listed(self) -> Sequence[tuple[datetime | None, Any]]:
        """All its files, each with the start of its period as naive local time, None if they are not dated."""
        return list_files(self.table)

    def _state(self, file: Any) -> tuple[str, int, Any]:
        """Path, size and time of the last change of a file."""
        stat = file.stat()
        return str(file), stat.st_size, stat.st_mtime_ns

    def _changed(self, files: Sequence[Any]) -> datetime:
        """The time of the last change of any of these files."""
        return datetime.fromtimestamp(max((file.stat().st_mtime for file in files), default=0.0), UTC)


class RemoteTable(FileTable):
    """Parquet or CSV files at an address. The rows of a range are read from local copies of its files."""

    def __init__(self, model: Model, name: str, table: Table) -> None:
        super().__init__(model, name, table)
        self.remote = RemoteFiles(table, bool(model.config.personal))

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether it has a file for a range."""
        return bool(self._files_of(start, end))

    def fingerprint(self, start: datetime, end: datetime) -> list[tuple[str, int, str]]:
        """Name and size of each file, and its ETag or what else the storage has that changes with the content."""
        return [(file.name, file.size, file.state) for file in self._files_of(start, end)]

    def files(self, start: datetime, end: datetime) -> list[Path]:
        """Local copies of the files of a range."""
        paths: list[Path] = []
        with ExitStack() as held:
            for file in self._files_of(start, end):
                paths.append(self.remote.copy(file))
                held.enter_context(hold(paths[-1:]))
        return paths

    def _files_of(self, start: datetime, end: datetime) -> list[RemoteFile]:
        first, last = (t.astimezone(ZoneInfo(self._zone)).replace(tzinfo=None) for t in (start, end))
        every = self.table.every
        return [
            file
            for at, file in self._listed()
            if at is None or every is None or (at < last and next_start(at, every) > first)
        ]

    def _listed(self) -> Sequence[tuple[datetime | None, RemoteFile]]:
        every, path = self.table.every, self.table.path
        if every is None:
            return [(None, file) for file in self.remote.matches(path)]
        dated = [(parse_date(path, f.address, every), f) for f in self.remote.matches(any_date(path))]
        return sorted((start, file) for start, file in dated if start and floor(start, every) == start)

    def _state(self, file: RemoteFile) -> tuple[str, int, Any]:
        return file.address, file.size, file.state

    def _changed(self, files: Sequence[RemoteFile]) -> datetime:
        return datetime.now(UTC)  # storages have times of many forms; the state says whether anything has changed


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """A file's digest. This process computes it again only if size or time have changed."""
    return digest_file(path)
