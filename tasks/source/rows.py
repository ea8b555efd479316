"""Read a partition's rows and outcomes from a model's source.

`source.sql` and `labels.sql` see the tables of model.yaml as views and get `$start` and `$end`. What comes back is sorted by
time and key and has exactly the declared columns, so that the same source gives the same bytes.
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
from tasks.source.session import connect, raw_sql, refuse_undated
from tasks.storage.answer_log import newest_rows

if TYPE_CHECKING:
    import pyarrow as pa

NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL", "BOOLEAN", "HUGEINT", '"NULL"')
TEXTS = ("VARCHAR", "ENUM", "UUID", '"NULL"')
ZONED = ("TIMESTAMP WITH TIME ZONE",)


def read_source(model: Model, ref: PartitionRef, threads: int = 2, cut: datetime | None = None) -> "pa.Table":
    """Key, time and features of a partition's rows; of a served partition as they were sent.

    Raises:
        MissingSource, SourceMismatch: the files are not there, cannot be read, lack a column, or have rows without a time.
        ConfigError: the SQL yields other columns than model.yaml declares.
    """
    config = model.config
    if is_served(model, ref.key):
        return (
            newest_rows(model, ref.key)
            .select(list(config.columns))
            .sort_by([(config.time, "ascending"), (config.key, "ascending")])
        )
    wanted = {config.key: TEXTS, config.time: ZONED}
    wanted |= dict.fromkeys(config.features.numeric, NUMBERS)
    wanted |= dict.fromkeys((*config.features.categorical, *config.groups), TEXTS)
    casts = {config.time: "TIMESTAMPTZ"} | dict.fromkeys(config.features.numeric, "DOUBLE")
    files = source_files(model, ref)
    if config.source.file:
        refuse_undated(model, files)
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
        relation = con.sql(raw_sql(sql), params=_used(sql, {"start": ref.start, "end": ref.end}))
        found = {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
        _require_declared(model.folder / file, found, wanted)
        columns = ", ".join(f'CAST("{c}" AS {casts.get(c, "VARCHAR")}) AS "{c}"' for c in wanted)
        first, second = list(wanted)[:2]
        order = f'"{second}", "{first}"' if second != model.config.target.column else f'"{first}"'
        return relation.project(columns).order(order).to_arrow_table()


def _used(sql: str, params: dict[str, Any]) -> dict[str, Any]:
    """DuckDB refuses a parameter that the query does not name."""
    return {name: value for name, value in params.items() if f"${name}" in sql}


def _require_declared(file: Path, found: dict[str, str], wanted: dict[str, tuple[str, ...]]) -> None:
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
