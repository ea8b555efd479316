"""Read a model's source through DuckDB: the only module that opens source files.

`source.sql` and `labels.sql` see the tables of model.yaml as views and get `$start` and
`$end`. The session's time zone is UTC. What comes back is sorted by time and key and has
exactly the declared columns, so that the same source gives the same bytes.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from configs.errors import ConfigError
from configs.flat import moment, quoted
from configs.load import Model
from configs.schema import FLAT, ModelConfig, Table
from configs.settings import ROOT
from tasks import partitions
from tasks.contracts import PartitionRef
from tasks.errors import MissingSource, SourceMismatch, SourceUnavailable
from tasks.lake import digest_file, digest_json

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL", "BOOLEAN", "HUGEINT", '"NULL"')
TEXTS = ("VARCHAR", "ENUM", "UUID", '"NULL"')
ZONED = ("TIMESTAMP WITH TIME ZONE",)


def locate(table: Table, zone: str, start: datetime, end: datetime) -> list[Path]:
    """The files of a table that cover `[start, end)` and exist, oldest first."""
    folder, pattern = _anchor(table.path)
    if table.every is None:
        return sorted(folder.glob(pattern))
    first, last = (t.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for t in (start, end))
    at, found = partitions.floor(first, table.every), []
    while at < last:
        found.append(folder / at.strftime(pattern))
        at = partitions.following(at, table.every)
    return [path for path in found if path.is_file()]


def _anchor(path: str) -> tuple[Path, str]:
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


def fingerprint(model: Model, ref: PartitionRef) -> str:
    """A cheap digest of everything that a partition is read from: names, sizes and contents of the files.

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
        raise MissingSource(f"{ref}: {_listing({'': paths})} has no rows for it; there is nothing to ingest yet")
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


def text_columns(config: ModelConfig) -> tuple[str, ...]:
    """Columns of a flat file that are text whatever they look like; none where SQL says what they are."""
    if not config.source.file:
        return ()
    classes = (config.target.column,) if config.target.kind == "multiclass" else ()
    return (config.key, *config.features.categorical, *config.groups, *classes)


PERIOD = {"M": "month", "W": "week", "D": "day", "H": "hour"}
_PRINTS: dict[tuple[Any, ...], dict[datetime, str]] = {}
"""By what a file is read as, and its size and time."""


def available(model: Model) -> list[str]:
    """The partitions that the source has data for, oldest first; empty when it has none."""
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
    folder, pattern = _anchor(table.path)
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
        query = f'SELECT min("{time}"), max("{time}") FROM ({_bare(model.source_sql)})'  # noqa: S608  (the SQL is the model's own)
        found = con.execute(query, {"start": _LONG_AGO, "end": _FAR_AWAY}).fetchone()
    return (found[0], found[1] + timedelta(microseconds=1)) if found and found[0] is not None else None


LASTING = ("Permission denied", "No such file", "No files found", "404")
"""What DuckDB says of files that will not be there in a moment either."""
_LONG_AGO, _FAR_AWAY = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@contextmanager
def connect(
    model: Model, files: dict[str, list[Path]], cut: datetime | None = None, threads: int = 2
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A DuckDB session with the model's tables as views; with `cut`, as they were known at that moment."""
    import duckdb

    outages = duckdb.IOException, duckdb.HTTPException, duckdb.ConnectionException
    con = duckdb.connect(config={"threads": threads})
    try:
        con.execute("SET TimeZone = 'UTC'")
        for name, table in model.config.source.views.items():
            con.execute(f'CREATE VIEW "{name}" AS {_view(name, table, files[name], cut, text_columns(model.config))}')
        yield con
    except duckdb.Error as error:
        if isinstance(error, outages) and not any(sign in str(error) for sign in LASTING):
            raise SourceUnavailable(
                f"{model.folder}: {_first_lines(error)}; read from {_listing(files)}. Run the same again when it answers"
            ) from error
        told = f"{model.folder}: {_first_lines(error)}; read from {_listing(files)}{_columns(con, error)}"
        raise SourceMismatch(f"{told}. Mend the file, or the SQL if the table has changed") from error
    finally:
        con.close()


def _view(name: str, table: Table, files: list[Path], cut: datetime | None, as_text: Sequence[str] = ()) -> str:
    """The SQL of one table, its unknown outcomes and rows hidden when there is a `cut`.

    Columns `as_text` of a CSV are not guessed at: a row that is added must not make another type of them.
    """
    paths = ", ".join("'" + str(p).replace("'", "''") + "'" for p in files)
    text = bool(files) and any(sign in files[0].name.lower() for sign in (".csv", ".tsv", ".txt"))
    types = ", ".join(f"'{column}': 'VARCHAR'" for column in as_text)
    reader = f"read_csv([{paths}]{f', types={{{types}}}' if types else ''})" if text else f"read_parquet([{paths}])"
    base = f'FROM {reader} AS "{name}"'
    if cut is None:
        return f"SELECT * {base}"
    moment = f"TIMESTAMPTZ '{cut.isoformat()}'"
    hidden = ", ".join(
        f'CASE WHEN {table.outcomes_known_at} <= {moment} THEN "{c}" END AS "{c}"' for c in table.outcomes
    )
    where = f" WHERE {table.known_at} <= {moment}" if table.known_at else ""
    return f"SELECT *{f' REPLACE ({hidden})' if hidden else ''} {base}{where}"


def _bare(sql: str) -> str:
    """A query that can stand in brackets."""
    return f"\n{sql.strip().rstrip(';')}\n"


def _first_lines(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:7] if line.strip())


def _columns(con: "duckdb.DuckDBPyConnection", error: Exception) -> str:
    """What the tables hold, where a column or its type was the trouble; DuckDB does not always say which."""
    import duckdb

    if not isinstance(error, duckdb.BinderException | duckdb.ConversionException):
        return ""
    query = (
        "SELECT table_name || '(' || string_agg(column_name || ' ' || data_type, ', ' ORDER BY column_index) || ')' "
        "FROM duckdb_columns() WHERE NOT internal GROUP BY table_name ORDER BY table_name"
    )
    return f", which now hold {', '.join(row[0] for row in con.execute(query).fetchall())}"


def _listing(files: dict[str, list[Path]]) -> str:
    return ", ".join(
        str(p.relative_to(ROOT) if p.is_relative_to(ROOT) else p) for paths in files.values() for p in paths
    )


def read_source(model: Model, ref: PartitionRef, threads: int = 2, cut: datetime | None = None) -> "pa.Table":
    """Key, time and features of a partition's rows.

    Raises:
        MissingSource, SourceMismatch: the files are not there, cannot be read, or lack a column.
        ConfigError: the SQL yields other columns than model.yaml declares.
    """
    config = model.config
    wanted = {config.key: TEXTS, config.time: ZONED}
    wanted |= dict.fromkeys(config.features.numeric, NUMBERS)
    wanted |= dict.fromkeys((*config.features.categorical, *config.groups), TEXTS)
    casts = {config.time: "TIMESTAMPTZ"} | dict.fromkeys(config.features.numeric, "DOUBLE")
    files = source_files(model, ref)
    return _query(model, model.config.source.sql, model.source_sql, ref, files, wanted, casts, threads, cut)


def read_labels(model: Model, ref: PartitionRef, threads: int = 2) -> "pa.Table":
    """Key, outcome and known-time of a partition's rows, whether known by the ref's as-of or not.

    A row whose outcome is null and whose known-time is given will never have one.
    """
    config = model.config
    classes = config.target.kind == "multiclass"
    wanted: dict[str, tuple[str, ...]] = {
        config.key: TEXTS,
        config.target.column: TEXTS if classes else NUMBERS,
        "known_at": ZONED,
    }
    casts = {config.target.column: "VARCHAR" if classes else "DOUBLE", "known_at": "TIMESTAMPTZ"}
    files = source_files(model, ref)
    return _query(model, model.config.source.labels, model.labels_sql, ref, files, wanted, casts, threads, None)


def _query(
    model: Model,
    file: str,
    sql: str,
    ref: PartitionRef,
    files: dict[str, list[Path]],
    wanted: dict[str, tuple[str, ...]],
    casts: dict[str, str],
    threads: int,
    cut: datetime | None,
) -> "pa.Table":
    """Run one of the model's queries, hold its columns to `wanted`, and return them sorted by their first two."""
    with connect(model, files, cut, threads) as con:
        relation = con.sql(_bare(sql), params=_used(sql, {"start": ref.start, "end": ref.end}))
        found = {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
        _hold_to(model.folder / file, found, wanted)
        columns = ", ".join(f'CAST("{c}" AS {casts.get(c, "VARCHAR")}) AS "{c}"' for c in wanted)
        first, second = list(wanted)[:2]
        order = f'"{second}", "{first}"' if second != model.config.target.column else f'"{first}"'
        return relation.project(columns).order(order).to_arrow_table()


def _used(sql: str, params: dict[str, Any]) -> dict[str, Any]:
    """DuckDB refuses a parameter that the query does not name."""
    return {name: value for name, value in params.items() if f"${name}" in sql}


def _hold_to(file: Path, found: dict[str, str], wanted: dict[str, tuple[str, ...]]) -> None:
    """Refuse other columns than declared, or columns of another kind."""
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing:
        raise ConfigError(
            f"{file}: does not yield {', '.join(missing)}, which model.yaml declares; add to the SELECT or remove there"
        )
    if extra:
        raise ConfigError(
            f"{file}: yields {', '.join(extra)}, which model.yaml does not declare; declare as a feature or drop"
        )
    for name, kinds in wanted.items():
        if not any(kind in found[name] for kind in kinds):
            raise SourceMismatch(
                f"{file}: column {name!r} is {found[name]}, but must be {_kind(kinds)}; cast it, or move it to the other feature list"
            )


def _kind(kinds: tuple[str, ...]) -> str:
    return {NUMBERS: "a number", TEXTS: "text", ZONED: "a timestamp with time zone"}[kinds]
