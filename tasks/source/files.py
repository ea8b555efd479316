"""Which files a table has, and which of them a partition is made from."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from configs.load import Model
from configs.settings import ROOT
from configs.source import Table
from tasks.contracts import PartitionRef
from tasks.errors import MissingSource
from tasks.storage import partitions


def locate(table: Table, zone: str, start: datetime, end: datetime) -> list[Path]:
    """The files of a table that cover `[start, end)` and exist, oldest first."""
    folder, pattern = anchor(table.path)
    if table.every is None:
        return sorted(folder.glob(pattern))
    first, last = (t.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for t in (start, end))
    at, found = partitions.floor(first, table.every), []
    while at < last:
        found.append(folder / at.strftime(pattern))
        at = partitions.following(at, table.every)
    return [path for path in found if path.is_file()]


def anchor(path: str) -> tuple[Path, str]:
    """A folder that exists by name and the pattern below it; what is relative counts from the repository's root."""
    whole = Path(path) if Path(path).is_absolute() else ROOT / path
    return whole.parent, whole.name


def source_files(model: Model, ref: PartitionRef) -> dict[str, list[Path]]:
    """The files that a partition is made from, by table.

    Raises:
        MissingSource: a table has no file for the partition's own range.
    """
    config = model.config
    files = {}
    for name, table in config.source.views.items():
        if not locate(table, config.partition.timezone, ref.start, ref.end):
            raise MissingSource(
                f"{ref}: table {name!r} has no file for it (expected {table.path}); there is nothing to ingest yet"
            )
        files[name] = locate(table, config.partition.timezone, ref.start - config.source.lookback, ref.end)
    return files


def listing(files: dict[str, list[Path]]) -> str:
    return ", ".join(
        str(p.relative_to(ROOT) if p.is_relative_to(ROOT) else p) for paths in files.values() for p in paths
    )
