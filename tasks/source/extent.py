"""What a source has: its partitions, and a cheap digest of what each is made from."""

import functools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from configs.flat import moment, quoted
from configs.load import Model
from configs.source import FLAT, Table
from tasks.contracts import PartitionRef
from tasks.errors import MissingSource
from tasks.source.files import anchor, listing, locate, source_files
from tasks.source.session import connect, raw_sql
from tasks.storage import partitions
from tasks.storage.answer_log import served_fingerprint, served_partitions
from tasks.storage.files import digest_file, digest_json

PERIOD = {"M": "month", "W": "week", "D": "day", "H": "hour"}
_PRINTS: dict[tuple[Any, ...], dict[datetime, str]] = {}
"""By what a file is read as, and its size and time."""
_LONG_AGO, _FAR_AWAY = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def available(model: Model) -> list[str]:
    """The partitions that the source has data for, oldest first; empty when it has none.

    From `source.served_from` on they are those that serving was asked about.
    """
    if served_from := model.config.source.served_from:
        served = [key for key in served_partitions(model.name) if key >= served_from]
        return [key for key in _in_tables(model) if key < served_from] + served
    return _in_tables(model)


def _in_tables(model: Model) -> list[str]:
    config, zone = model.config, ZoneInfo(model.config.partition.timezone)
    dated = [t for t in config.source.views.values() if t.every]
    found = [_span(t, zone) for t in dated] if dated else [_extent(model)]
    spans = [s for s in found if s]
    if len(spans) < len(found):
        return []
    first, last = max(s[0] for s in spans), min(s[1] for s in spans)
    if last <= first:
        return []
    newest = partitions.containing(config, last - timedelta(microseconds=1))
    return [r.key for r in partitions.between(config, partitions.containing(config, first).key, newest.key)]


def _span(table: Table, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """From the start of a table's first file to the end of its last."""
    assert table.every is not None
    folder, pattern = anchor(table.path)
    starts = []
    for path in folder.glob("*"):
        try:
            starts.append(datetime.strptime(path.name, pattern))  # noqa: DTZ007  (local to the model's zone)
        except ValueError:
            continue
    if not starts:
        return None
    return min(starts).replace(tzinfo=zone), partitions.following(max(starts), table.every).replace(tzinfo=zone)


def _extent(model: Model) -> tuple[datetime, datetime] | None:
    """First and just after the last moment of a source that is not cut into files by time; None when there is none."""
    time = model.config.time
    files = {n: locate(t, "UTC", _LONG_AGO, _LONG_AGO) for n, t in model.config.source.views.items()}
    if not all(files.values()):
        return None
    with connect(model, files) as con:
        query = f'SELECT min("{time}"), max("{time}") FROM ({raw_sql(model.source_sql)})'  # noqa: S608  (the SQL is the model's own)
        found = con.execute(query, {"start": _LONG_AGO, "end": _FAR_AWAY}).fetchone()
    return (found[0], found[1] + timedelta(microseconds=1)) if found and found[0] is not None else None


def fingerprint(model: Model, ref: PartitionRef) -> str:
    """A cheap digest of everything that a partition's rows are read from.

    Raises:
        MissingSource: there is nothing to read.
    """
    return served_fingerprint(model, ref.key) if is_served(model, ref.key) else table_fingerprint(model, ref)


def is_served(model: Model, key: str) -> bool:
    """Whether a partition's rows are those that serving was asked about."""
    return bool(model.config.source.served_from) and key >= str(model.config.source.served_from)


def table_fingerprint(model: Model, ref: PartitionRef) -> str:
    """The same of the tables alone, which outcomes always come from: names, sizes and contents of the files.

    Of one flat file it is the partition's own rows, so that a file that grows leaves the partitions before as they are.

    Raises:
        MissingSource: there is nothing to read.
    """
    if model.config.source.file and not model.config.source.file.every:
        return _flat_fingerprint(model, ref)
    stats = [(p, p.stat()) for paths in source_files(model, ref).values() for p in paths]
    return digest_json([(p.name, s.st_size, _digest(p, s.st_size, s.st_mtime_ns)) for p, s in stats])


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """A file's digest, read again in this process only when its size or time changed."""
    return digest_file(path)


def _flat_fingerprint(model: Model, ref: PartitionRef) -> str:
    config = model.config
    ((_, paths),) = source_files(model, ref).items()
    stats = tuple((p, p.stat().st_size, p.stat().st_mtime_ns) for p in paths)
    known = _PRINTS.setdefault((model.source_sql, model.labels_sql, config.partition.every, stats), {})
    if not known:
        known.update(_prints(model, paths))
    start = partitions.parse_key(ref.key, config.partition.every)
    if not (known and min(known) <= start <= max(known)):
        raise MissingSource(f"{ref}: {listing({'': paths})} has no rows for it; there is nothing to ingest yet")
    return known.get(start, "no rows")


def _prints(model: Model, paths: list[Path]) -> dict[datetime, str]:
    """A digest of the rows of each partition of a flat file, by its first moment as naive local time."""
    config = model.config
    columns = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in (*config.columns, config.target.column))
    local = f"timezone('{config.partition.timezone}', {moment(config)})"
    query = (
        f"SELECT CAST(date_trunc('{PERIOD[config.partition.every]}', {local}) AS TIMESTAMP), "  # noqa: S608  (from model.yaml)
        f"count(*) || ' ' || sum(hash({columns})::HUGEINT) FROM {FLAT} WHERE {quoted(config.time)} IS NOT NULL GROUP BY 1"
    )
    with connect(model, {FLAT: paths}) as con:
        return dict(con.execute(query).fetchall())
