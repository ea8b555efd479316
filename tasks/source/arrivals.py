"""What a source has delivered so far, as a digest that changes when there may be something to process or to assess.

Files are listed and not read, so that a look at many models takes milliseconds.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from configs.load import Model
from tasks.source.files import list_files
from tasks.storage.answer_log import segments, served_folder, served_partitions
from tasks.storage.files import digest_json
from tasks.storage.partitions import containing, next_start, parse_key, partition


class Arrivals(NamedTuple):
    """A digest of what is there to be processed, and one of what is there to be assessed. Empty if nothing is."""

    to_process: str
    to_assess: str


def arrivals(model: Model, now: datetime) -> Arrivals:
    """Digest the files of the source that complete partitions read, and the partitions that are complete, and that have matured.

    A digest changes when a file of a complete partition comes or changes, or when time makes another partition complete (or matured) for
    which there can be rows. Files of a partition that is not complete yet do not count.

    Args:
        model: The model.
        now: The present, aware.
    """
    config, zone = model.config, ZoneInfo(model.config.partition.timezone)
    complete = containing(config, now - config.partition.grace).start
    matured = containing(config, now - max(config.partition.grace, config.target.delay)).start
    until = complete.astimezone(zone).replace(tzinfo=None)
    listed = {
        name: [(start, path) for start, path in list_files(table) if start is None or start < until]
        for name, table in sorted(config.source.views.items())
    }
    served = [key for key in _served(model) if parse_key(key, config.partition.every) < until]
    if not served and not all(listed.values()):
        return Arrivals("", "")
    newest = max([_newest_end(model, listed), *(partition(config, key).end for key in served[-1:])])
    files = [(name, *_state(path)) for name, found in listed.items() for _, path in found]
    answers = [path.name for key in served for path in segments(served_folder(config.name) / key)]
    state = [files, served, answers, min(complete, newest)]
    return Arrivals(digest_json(state), digest_json([state, min(matured, newest)]))


def _state(path: Path) -> tuple[str, int, int]:
    """Path, size and time of the last change of a file."""
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns


def _newest_end(model: Model, listed: Mapping[str, Sequence[tuple[datetime | None, Path]]]) -> datetime:
    """The end of the newest partition that the tables can have rows of. Without dates, a row is at most `source.ahead` after its file."""
    config, ends = model.config, []
    for name, table in config.source.views.items():
        if table.every and (starts := [start for start, _ in listed[name] if start]):
            ends.append(next_start(max(starts), table.every).replace(tzinfo=ZoneInfo(config.partition.timezone)))
    if ends:
        return min(ends)
    changed = [path.stat().st_mtime for files in listed.values() for _, path in files]
    return containing(config, datetime.fromtimestamp(max(changed, default=0), UTC) + config.source.ahead).end


def _served(model: Model) -> list[str]:
    """The partitions whose rows are served requests, oldest first."""
    first = model.config.source.served_from
    return [key for key in served_partitions(model.config.name) if key >= first] if first else []
