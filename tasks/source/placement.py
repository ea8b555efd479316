"""Rows of a source that are in no partition: without a time, with an impossible one, or lines that are no rows.

They would vanish without a trace, so a partition is not read while there are any.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from configs.flat import literal, quoted
from configs.load import Model
from configs.schema import ModelConfig
from tasks.errors import SourceMismatch
from tasks.source.files import file_start, list_paths
from tasks.source.kinds import open_tables
from tasks.source.moments import EARLIEST, latest
from tasks.source.session import connect, raw_sql
from tasks.source.values import FILE, time_advice
from tasks.source.views import STORED, TIME_TEXT
from tasks.storage import partitions
from tasks.storage.personal import shown

if TYPE_CHECKING:
    import duckdb

Files = Mapping[str, Sequence[Path]]
_BEFORE_ALL, _AFTER_ALL = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)
_UNPLACED: dict[tuple[Any, ...], str] = {}
"""Results of `unplaced_rows`, by the config and SQL, the path, size and time of the files, and the hour."""


def require_placed(model: Model, files: dict[str, list[Path]]) -> None:
    """Require that each row of these files is in a partition that reads it.

    Raises:
        SourceMismatch: some are not. The message has their number, and the file, the key and the time of one.
    """
    if problem := unplaced_rows(model, files):
        raise SourceMismatch(problem)


def unplaced_rows(model: Model, files: dict[str, list[Path]]) -> str:
    """Describe the rows that no partition reads; empty if there are none.

    Of a flat file each row is checked, and of tables without dated files each row of source.sql. SQL on dated files may leave out rows.
    """
    config = model.config
    if not config.source.file and any(table.is_ranged for table in config.source.views.values()):
        return ""
    for table in open_tables(model).values():
        if problem := table.unplaced():
            return f"{model.folder}: {problem}"
    stats = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for paths in files.values() for path in paths)
    key = (
        config.model_dump_json(include={"source", "partition", "time", "key"}),
        model.source_sql,
        stats,
        latest(config),
    )
    if key not in _UNPLACED:
        with connect(model, files) as con:
            rows = _flat_rows(con, model, files) if config.source.file else _sql_rows(con, model)
            problem = _bad_lines(con, config) or rows
        _UNPLACED[key] = f"{model.folder}: {problem}" if problem else ""
    return _UNPLACED[key]


def _flat_rows(con: "duckdb.DuckDBPyConnection", model: Model, files: Files) -> str:
    """Rows of a flat file without a time, or with one for which no partition reads their file."""
    config, (paths,) = model.config, files.values()
    time, key, text = quoted(config.time), quoted(config.key), quoted(TIME_TEXT)
    file, first, last = map(
        quoted, ("limit file", "limit first", "limit last")
    )  # a column of the file may be called `first`
    limits = ", ".join(
        f"({literal(str(path))}, {', '.join(f'TIMESTAMPTZ {literal(t.isoformat())}' for t in _limits(config, path))})"
        for path in paths
    )
    query = (
        f"SELECT count(*) OVER (), {quoted(FILE)}, CAST({key} AS VARCHAR), {text}, {time} IS NULL, {first}, {last} FROM {quoted(STORED)} "  # noqa: S608  (from model.yaml)
        f"JOIN (VALUES {limits}) AS limits({file}, {first}, {last}) ON {quoted(FILE)} = {file} "
        f"WHERE {time} IS NULL OR {time} < {first} OR {time} >= {last} ORDER BY {time} NULLS FIRST, {key} LIMIT 1"
    )
    for count, name, row, value, unknown, start, end in con.execute(query).fetchall():
        place = list_paths({"": [Path(name)]})
        if value is None:
            action = "add the time, or use `tables` and exclude the rows in source.sql"
            return _message(config, count, place, row, f"without {config.time!r}", "", action)
        if unknown:
            (table,) = config.source.views.values()
            problem = f"whose {config.time!r} is not a time"
            return _message(config, count, place, row, problem, value, time_advice(table.time_format))
        return _outside(config, count, place, row, value, start, end)
    return ""


def _sql_rows(con: "duckdb.DuckDBPyConnection", model: Model) -> str:
    """Rows of source.sql whose time is before or after all partitions."""
    config, first, last = model.config, EARLIEST, latest(model.config)
    time, key = quoted(config.time), quoted(config.key)
    query = (
        f"SELECT count(*) OVER (), CAST({key} AS VARCHAR), CAST({time} AS VARCHAR) FROM ({raw_sql(model.source_sql)}) "  # noqa: S608  (the SQL is the model's own)
        f"WHERE {time} < TIMESTAMPTZ {literal(first.isoformat())} OR {time} >= TIMESTAMPTZ {literal(last.isoformat())} "
        f"ORDER BY {time}, {key} LIMIT 1"
    )
    for start, end in ((_BEFORE_ALL, first), (last, _AFTER_ALL)):
        for count, row, value in con.execute(query, {"start": start, "end": end}).fetchall():
            return _outside(config, count, config.source.sql, row, value, first, last)
    return ""


def _bad_lines(con: "duckdb.DuckDBPyConnection", config: ModelConfig) -> str:
    """Lines of CSV files that are no rows. A view of a flat file skips and lists them."""
    query = (
        "SELECT count(DISTINCT (file_path, line)) OVER (), file_path, line, error_type, error_message, left(csv_line, 200) "
        "FROM reject_errors JOIN reject_scans USING (scan_id, file_id) ORDER BY file_path, line LIMIT 1"
    )
    if not con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors'").fetchall():
        return ""
    for count, file, line, kind, reason, text in con.execute(query).fetchall():
        lines = "1 line is no row" if count == 1 else f"{count:,} lines are no rows, the first is this one"
        problem = str(kind).lower() if config.personal else f"{reason.rstrip('.')}: {text.strip()!r}"
        return f"{file}: line {line}: {problem}; {lines}. Correct the file"
    return ""


def _limits(config: ModelConfig, path: Path) -> tuple[datetime, datetime]:
    """The times from the first to before the second one that the rows of a flat file may have."""
    (table,) = config.source.views.values()
    start = file_start(table, path) if table.every else None
    if start is None or table.every is None:
        return EARLIEST, latest(config)
    every, zone = config.partition.every, ZoneInfo(config.partition.timezone)
    last = partitions.next_start(start, table.every) - timedelta(microseconds=1)
    first, end = partitions.floor(start, every), partitions.next_start(partitions.floor(last, every), every)
    return first.replace(tzinfo=zone), end.replace(tzinfo=zone)


def _outside(config: ModelConfig, count: int, place: str, row: str, value: str, first: datetime, last: datetime) -> str:
    """The message for a time outside of the limits. It is the same an hour later, since a record has its digest."""
    if any(table.every for table in config.source.views.values()):
        problem = f"whose {config.time!r} is not from {first.isoformat()} to before {last.isoformat()}"
        return _message(
            config, count, place, row, problem, value, "correct it, or move the row to the file of its time"
        )
    ahead = f"{config.source.ahead / timedelta(hours=1):g} h"
    problem = f"whose {config.time!r} is before {first.year} or more than {ahead} after the present"
    action = "correct it, or increase `source.ahead` in model.yaml if such times are right"
    return _message(config, count, place, row, problem, value, action)


def _message(config: ModelConfig, count: int, place: str, row: str, problem: str, value: str, action: str) -> str:
    example = f"the one with {config.key} {shown(config, config.key, row)!r}" + (
        f", where it is {value!r}" if value else ""
    )
    return f"rows {problem} belong to no partition: {count:,} in {place}, such as {example}; {action}"
