"""Read a partition's rows and outcomes from a model's source.

In `source.sql` and `labels.sql` the tables of model.yaml are views, and `$start` and `$end` are parameters. The result is sorted by time
and key and has exactly the declared columns, so that the same source gives the same bytes.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from configs.load import Model
from tasks.contracts import PartitionRef
from tasks.errors import SourceMismatch
from tasks.source.extent import is_served
from tasks.source.files import source_files
from tasks.source.session import connect, raw_sql, require_time
from tasks.storage.answer_log import newest_rows

if TYPE_CHECKING:
    import pyarrow as pa

NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL", "BOOLEAN", "HUGEINT", '"NULL"')
TEXTS = ("VARCHAR", "ENUM", "UUID", '"NULL"')
ZONED = ("TIMESTAMP WITH TIME ZONE",)


def read_source(model: Model, ref: PartitionRef, threads: int = 2, cutoff: datetime | None = None) -> "pa.Table":
    """Read key, time and features of a partition's rows. Rows of a served partition are as the requests sent them.

    Args:
        model: The model.
        ref: The partition.
        threads: Threads of DuckDB. They do not change the result.
        cutoff: Hides what became known later. Not for served partitions.

    Raises:
        MissingSource: the source has nothing for the partition.
        SourceMismatch: a file cannot be read or lacks a column, or a row has no time.
        SourceUnavailable: the source does not answer.
        ConfigError: the SQL does not return the columns that model.yaml declares.
    """
    config = model.config
    if is_served(model, ref.key):
        return (
            newest_rows(model, ref.key)
            .select(list(config.columns))
            .sort_by([(config.time, "ascending"), (config.key, "ascending")])
        )
    declared = {config.key: TEXTS, config.time: ZONED}
    declared |= dict.fromkeys(config.features.numeric, NUMBERS)
    declared |= dict.fromkeys((*config.features.categorical, *config.groups), TEXTS)
    casts = {config.time: "TIMESTAMPTZ"} | dict.fromkeys(config.features.numeric, "DOUBLE")
    files = source_files(model, ref)
    if config.source.file:
        require_time(model, files)
    return _query(model, model.config.source.sql, model.source_sql, ref, files, declared, casts, threads, cutoff)


def read_labels(model: Model, ref: PartitionRef, threads: int = 2) -> "pa.Table":
    """Read key, outcome and `known_at` of a partition's rows, also of outcomes that became known after the ref's as-of.

    A row with `known_at` whose outcome is null will never have an outcome.

    Raises:
        MissingSource, SourceMismatch, SourceUnavailable, ConfigError: see `read_source`.
    """
    config = model.config
    classes = config.target.kind == "multiclass"
    declared: dict[str, tuple[str, ...]] = {
        config.key: TEXTS,
        config.target.column: TEXTS if classes else NUMBERS,
        "known_at": ZONED,
    }
    casts = {config.target.column: "VARCHAR" if classes else "DOUBLE", "known_at": "TIMESTAMPTZ"}
    files = source_files(model, ref)
    return _query(model, model.config.source.labels, model.labels_sql, ref, files, declared, casts, threads, None)


def _query(
    model: Model,
    file: str,
    sql: str,
    ref: PartitionRef,
    files: dict[str, list[Path]],
    declared: dict[str, tuple[str, ...]],
    casts: dict[str, str],
    threads: int,
    cutoff: datetime | None,
) -> "pa.Table":
    """Run one of the model's queries, require the declared columns, and return them sorted by time and key."""
    with connect(model, files, cutoff, threads) as con:
        relation = con.sql(raw_sql(sql), params=_used(sql, {"start": ref.start, "end": ref.end}))
        types = {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
        try:
            _require_declared(model.folder / file, types, declared)
        except SourceMismatch:
            if relation.limit(1).fetchall():  # the columns of a file without rows have no type
                raise
        columns = ", ".join(f'CAST("{c}" AS {casts.get(c, "VARCHAR")}) AS "{c}"' for c in declared)
        first, second = list(declared)[:2]
        order = f'"{second}", "{first}"' if second != model.config.target.column else f'"{first}"'
        return relation.project(columns).order(order).to_arrow_table()


def _used(sql: str, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a query uses. DuckDB refuses others."""
    return {name: value for name, value in params.items() if f"${name}" in sql}


def _require_declared(file: Path, types: dict[str, str], declared: dict[str, tuple[str, ...]]) -> None:
    """Refuse a query that returns other columns than declared, or columns of another kind."""
    missing, extra = sorted(declared.keys() - types.keys()), sorted(types.keys() - declared.keys())
    if missing:
        raise ConfigError(
            f"{file}: does not return {', '.join(missing)}, which model.yaml declares; add it to the SELECT, or remove it from model.yaml"
        )
    if extra:
        raise ConfigError(
            f"{file}: returns {', '.join(extra)}, which model.yaml does not declare; declare it as a feature, or remove it from the SELECT"
        )
    for name, kinds in declared.items():
        if not any(kind in types[name] for kind in kinds):
            raise SourceMismatch(
                f"{file}: column {name!r} is {types[name]}, but must be {_kind(kinds)}; cast it, or move it to the other feature list"
            )


def _kind(kinds: tuple[str, ...]) -> str:
    return {NUMBERS: "a number", TEXTS: "text", ZONED: "a timestamp with time zone"}[kinds]
