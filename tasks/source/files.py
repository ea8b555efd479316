"""The files of a table, and those that a partition is read from."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from configs.load import Model
from configs.settings import ROOT
from configs.source import Table
from tasks.contracts import PartitionRef
from tasks.errors import MissingSource
from tasks.storage import partitions


def find_files(table: Table, zone: str, start: datetime, end: datetime) -> list[Path]:
    """The existing files of a table that cover `[start, end)`, oldest first. All its files if they are not dated."""
    folder, pattern = split_path(table.path)
    if table.every is None:
        return sorted(folder.glob(pattern))
    first, last = (t.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for t in (start, end))
    at, paths = partitions.floor(first, table.every), []
    while at < last:
        paths.append(folder / at.strftime(pattern))
        at = partitions.next_start(at, table.every)
    return [path for path in paths if path.is_file()]


def split_path(path: str) -> tuple[Path, str]:
    """Split a path into its folder and the pattern of its file names. Relative paths start at the repository's root."""
    absolute = Path(path) if Path(path).is_absolute() else ROOT / path
    return absolute.parent, absolute.name


def source_files(model: Model, ref: PartitionRef) -> dict[str, list[Path]]:
    """The files that a partition is read from, with `source.lookback`, by table.

    Raises:
        MissingSource: a table has no file for the partition's own range.
    """
    config = model.config
    files = {}
    for name, table in config.source.views.items():
        if not find_files(table, config.partition.timezone, ref.start, ref.end):
            raise MissingSource(
                f"{ref}: table {name!r} has no file for it (expected {table.path}); there is nothing to ingest yet"
            )
        files[name] = find_files(table, config.partition.timezone, ref.start - config.source.lookback, ref.end)
    return files


def has_files(model: Model, ref: PartitionRef) -> bool:
    """Whether every table has a file for the partition's own range."""
    zone = model.config.partition.timezone
    return all(find_files(table, zone, ref.start, ref.end) for table in model.config.source.views.values())


def list_paths(files: dict[str, list[Path]]) -> str:
    """Return the paths for a message, relative to the repository where they are in it."""
    return ", ".join(
        str(p.relative_to(ROOT) if p.is_relative_to(ROOT) else p) for paths in files.values() for p in paths
    )
