"""The partitions of a source, and a cheap digest of what each one is read from."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from configs.flat import literal, quoted
from configs.load import Model
from configs.source import FLAT
from tasks.contracts import PartitionRef
from tasks.errors import MissingSource
from tasks.source.files import list_paths
from tasks.source.kinds import open_tables, require_covered, source_files
from tasks.source.moments import EARLIEST, latest
from tasks.source.placement import require_placed
from tasks.source.session import connect, raw_sql
from tasks.source.views import STORED
from tasks.storage import partitions
from tasks.storage.answer_log import served_fingerprint, served_partitions
from tasks.storage.files import digest_json

PERIOD = {"M": "month", "W": "week", "D": "day", "H": "hour"}
_FLAT_DIGESTS: dict[tuple[Any, ...], dict[datetime, str]] = {}
"""Digests of partitions of flat files, by the SQL and the path, size and time of the files."""


def available_partitions(model: Model) -> list[str]:
    """The partitions that the source has data for, oldest first. From `source.served_from` on, those with served requests."""
    if served_from := model.config.source.served_from:
        served = [key for key in served_partitions(model.name) if key >= served_from]
        return [key for key in _table_partitions(model) if key < served_from] + served
    return _table_partitions(model)


def why_no_partition(model: Model) -> str:
    """Why the source has data for no partition, and what to do; empty if it has data.

    Raises:
        SourceMismatch, SourceUnavailable: the source cannot be read.
    """
    if available_partitions(model):
        return ""
    action = "Nothing can be processed. Check `source` in model.yaml, and that its files or rows are there"
    for table in open_tables(model).values():
        if not (table.span() if table.is_ranged else table.covers(EARLIEST, EARLIEST)):
            return f"the source has no partition: {table.empty}. {action}"
    problem = (
        "its dated tables have no period in common" if len(model.config.source.views) > 1 else "its files have no rows"
    )
    if _table_partitions(model):
        problem = f"no request was served since {model.config.source.served_from}, and it has no earlier partition"
    return f"the source has no partition: {problem}. {action}"


def _table_partitions(model: Model) -> list[str]:
    config = model.config
    ranged = [table for table in open_tables(model).values() if table.is_ranged]
    ranges = [table.span() for table in ranged] if ranged else [_time_range(model)]
    known = [r for r in ranges if r]
    if len(known) < len(ranges):
        return []
    first, last = max(r[0] for r in known), min(latest(config), *(r[1] for r in known))
    if last <= first:
        return []
    newest = partitions.containing(config, last - timedelta(microseconds=1))
    return [r.key for r in partitions.between(config, partitions.containing(config, first).key, newest.key)]


def _time_range(model: Model) -> tuple[datetime, datetime] | None:
    """The first time in a source without dated files, and 1 microsecond after the last, None if it has no rows.

    Raises:
        SourceMismatch: it has rows, and no partition can have any of them.
    """
    time, first, last = quoted(model.config.time), EARLIEST, latest(model.config)
    files = {name: table.files(EARLIEST, EARLIEST) for name, table in open_tables(model).items()}
    if not all(files.values()):
        return None
    within = f"{time} >= TIMESTAMPTZ {literal(first.isoformat())} AND {time} < TIMESTAMPTZ {literal(last.isoformat())}"
    rows = quoted(STORED) if model.config.source.file else f"({raw_sql(model.source_sql)})"
    with connect(model, files) as con:
        query = f"SELECT min({time}), max({time}) FROM {rows} WHERE {within}"  # noqa: S608  (from model.yaml, and the model's own SQL)
        params = {} if model.config.source.file else {"start": first, "end": last}
        row = con.execute(query, params).fetchone()
    if row and row[0] is not None:
        return row[0], row[1] + timedelta(microseconds=1)
    require_placed(model, files)
    return None


def fingerprint(model: Model, ref: PartitionRef) -> str:
    """A cheap digest of everything that a partition's rows are read from.

    Raises:
        MissingSource: the source has nothing for the partition.
    """
    return served_fingerprint(model, ref.key) if is_served(model, ref.key) else table_fingerprint(model, ref)


def is_served(model: Model, key: str) -> bool:
    """Whether a partition's rows are served requests, and not rows of the tables."""
    return bool(model.config.source.served_from) and key >= str(model.config.source.served_from)


def table_fingerprint(model: Model, ref: PartitionRef) -> str:
    """A cheap digest of what a partition reads from the tables, where outcomes always come from.

    Of dated files these are names, sizes and contents, of a database what its table declares. Of one flat file it is the partition's own
    rows, so that adding rows does not change the digests of older partitions.

    Raises:
        MissingSource: the tables have nothing for the partition.
    """
    if model.config.source.file and not model.config.source.file.is_ranged:
        return _flat_fingerprint(model, ref)
    tables, start = open_tables(model), ref.start - model.config.source.lookback
    require_covered(tables, ref)
    return digest_json([part for table in tables.values() for part in table.fingerprint(start, ref.end)])


def _flat_fingerprint(model: Model, ref: PartitionRef) -> str:
    config = model.config
    ((_, paths),) = source_files(model, ref).items()
    stats = tuple((p, p.stat().st_size, p.stat().st_mtime_ns) for p in paths)
    time_format = next(iter(config.source.views.values())).time_format
    digests = _FLAT_DIGESTS.setdefault(
        (model.source_sql, model.labels_sql, config.partition.every, time_format, stats), {}
    )
    if not digests:
        digests.update(_flat_digests(model, paths))
    start = partitions.parse_key(ref.key, config.partition.every)
    if not (ref.start < latest(config) and digests and min(digests) <= start <= max(digests)):
        raise MissingSource(f"{ref}: {list_paths({'': paths})} has no rows for it; there is nothing to ingest yet")
    return digests.get(start, "no rows")


def _flat_digests(model: Model, paths: list[Path]) -> dict[datetime, str]:
    """A digest of the rows of each partition of a flat file, by the partition's start as naive local time."""
    config, time = model.config, quoted(model.config.time)
    columns = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in (*config.columns, config.target.column))
    local = f"timezone({literal(config.partition.timezone)}, {time})"
    query = (
        f"SELECT CAST(date_trunc('{PERIOD[config.partition.every]}', {local}) AS TIMESTAMP), "  # noqa: S608  (from model.yaml)
        f"count(*) || ' ' || sum(hash({columns})::HUGEINT) FROM {quoted(STORED)} "
        f"WHERE {time} >= TIMESTAMPTZ {literal(EARLIEST.isoformat())} AND {time} < TIMESTAMPTZ '9999-12-30 00:00:00+00' GROUP BY 1"
    )
    with connect(model, {FLAT: paths}) as con:
        return dict(con.execute(query).fetchall())
