"""The files of a table, and those that cover a range of time."""

import fnmatch
import os
import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePath
from zoneinfo import ZoneInfo

from configs.paths import any_date, dated_path, parse_date
from configs.settings import ROOT
from configs.source import Table
from tasks.source.origins import origin
from tasks.storage import partitions


def find_files(table: Table, zone: str, start: datetime, end: datetime) -> list[Path]:
    """The existing files of a table that cover `[start, end)`, oldest first. All its files if they are not dated."""
    if table.every is None:
        return matches(table.path)
    first, last = (t.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for t in (start, end))
    at, paths = partitions.floor(first, table.every), []
    while at < last:
        paths += matches(_escape(dated_path(table.path, at)))
        at = partitions.next_start(at, table.every)
    return paths


def list_files(table: Table) -> list[tuple[datetime | None, Path]]:
    """All files of a table, each with the start of its period as naive local time, None if the table is not dated."""
    if (every := table.every) is None:
        return [(None, file) for file in matches(table.path)]
    files = matches(_escape(any_date(str(PurePath(table.path)))))
    dated = [(file_start(table, file), file) for file in files]
    return [(start, file) for start, file in dated if start and partitions.floor(start, every) == start]


def file_start(table: Table, file: Path) -> datetime | None:
    """The start of the period of a file of a dated table, as naive local time, None if no period has a file of its name."""
    assert table.every is not None
    path = _normalised(table.path)
    name = origin(file)
    return parse_date(
        path, name if path.startswith("/") or table.is_remote else str(file.relative_to(ROOT)), table.every
    )


@lru_cache(maxsize=256)
def _normalised(path: str) -> str:
    """A path without redundant parts."""
    return path if "://" in path else str(PurePath(path))


def matches(path: str) -> list[Path]:
    """The existing files of a path, sorted. Relative paths start at the repository's root. The path may be a pattern of a shell."""
    folder = ROOT
    parts = Path(path).parts
    for at, part in enumerate(parts):
        if not (folder / part).exists():
            if at == len(parts) - 1 and "**" not in part:
                return [folder / name for name in _names(folder, part)]
            return sorted(file for file in folder.glob("/".join(parts[at:])) if file.is_file())
        folder = folder / part
    return [folder] if folder.is_file() else []


def _names(folder: Path, pattern: str) -> list[str]:
    """The names of the files in a folder that match a pattern, sorted. The folder is read once, and no file is looked at."""
    is_match = re.compile(fnmatch.translate(pattern)).match
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_match(entry.name) and entry.is_file())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _escape(path: str) -> str:
    """A dated path as a pattern in which brackets stand for themselves."""
    return path.replace("[", "[[]")


def path_pattern(path: Path) -> str:
    """A file's path as DuckDB must be given it: there every path is a pattern, and `[1]` is not itself."""
    return re.sub(r"[\[*?]", r"[\g<0>]", str(path))


def folder_columns(files: Iterable[Path]) -> set[str]:
    """The names, in lower case, that DuckDB takes from folders such as `year=2024` as columns."""
    return {part.partition("=")[0].lower() for file in files for part in file.parent.parts if "=" in part}


def list_paths(files: dict[str, list[Path]]) -> str:
    """Return the paths for a message, relative to the repository where they are in it."""
    return ", ".join(dict.fromkeys(origin(p).removeprefix(f"{ROOT}/") for paths in files.values() for p in paths))
