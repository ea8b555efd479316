"""Read a partition's rows and outcomes from a model's source.

In `source.sql` and `labels.sql` the tables of model.yaml are views, and `$start` and `$end` are parameters. The result is sorted by time
and key and has exactly the declared columns, so that the same source gives the same bytes.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from configs.flat import literal, quoted
from configs.load import Model
from configs.schema import ModelConfig
from configs.target import Target
from tasks.contracts import PartitionRef
from tasks.errors import SourceMismatch
from tasks.source.csv_lines import find_text, is_csv
from tasks.source.extent import is_served
from tasks.source.kinds import source_files
from tasks.source.placement import require_placed
from tasks.source.session import connect, raw_sql
from tasks.source.values import EMPTY, LARGE, SMALL, is_number, number_sql
from tasks.storage.answer_log import newest_rows
from tasks.storage.personal import hider

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

NUMBERS = (*SMALL, *LARGE, "DECIMAL")
TEXTS = ("VARCHAR", "ENUM", "UUID", EMPTY)
ZONED = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS")
OUTCOMES = (*NUMBERS, *TEXTS)
WHOLE = r"^(-?\d+)\.0+$"
"""Pattern of a whole number with a decimal point: pandas has whole numbers as floats in a column with missing values."""

FLOAT_KEY = r"^-?\d+(\.0|(\.\d+)?e\+\d+)$"
"""Pattern of the text that DuckDB makes of a whole number in floating point."""


def read_source(model: Model, ref: PartitionRef, threads: int = 2, cutoff: datetime | None = None) -> "pa.Table":
    """Read key, time and features of a partition's rows. Rows of a served partition are as the requests sent them.

    Args:
        model: The model.
        ref: The partition.
        threads: Threads of DuckDB. They do not change the result.
        cutoff: Hides what became known later. Not for served partitions.

    Raises:
        MissingSource: the source has nothing for the partition.
        SourceMismatch: a file cannot be read or lacks a column, a value is not of its column's type, or a row is in no partition.
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
    require_placed(model, files)
    return _query(model, model.config.source.sql, model.source_sql, ref, files, declared, casts, threads, cutoff)


def read_labels(model: Model, ref: PartitionRef, threads: int = 2) -> "pa.Table":
    """Read key, outcome and `known_at` of a partition's rows, also of outcomes that became known after the ref's as-of.

    A row with `known_at` whose outcome is null will never have an outcome. In a flat file such an outcome is not known yet, and left out.

    Raises:
        MissingSource, SourceUnavailable, ConfigError: see `read_source`.
        SourceMismatch: see `read_source`; or an outcome that must be a number is another text.
    """
    import pyarrow.compute as pc

    config, outcome = model.config, model.config.target.column
    declared: dict[str, tuple[str, ...]] = {config.key: TEXTS, outcome: OUTCOMES, "known_at": ZONED}
    files, casts = source_files(model, ref), {"known_at": "TIMESTAMPTZ"}
    labels = _query(model, config.source.labels, model.labels_sql, ref, files, declared, casts, threads, None)
    return labels.filter(pc.field(outcome).is_valid()) if config.source.file else labels


def outcome_sql(target: Target) -> str:
    """Return SQL for an outcome of any type: the text of a class, else a number. NaN is null.

    A whole number is the class `1`, also as `1.0`, unless `1.0` is a class. `true` and `false` as text are 1 and 0 for a binary target.
    """
    text, number = (f"CAST({quoted(target.column)} AS {kind})" for kind in ("VARCHAR", "DOUBLE"))
    if target.kind == "multiclass":
        if "nan" not in map(str.lower, target.classes):
            text = f"CASE WHEN lower({text}) <> 'nan' THEN {text} END"
        return text if any(re.match(WHOLE, c) for c in target.classes) else f"regexp_replace({text}, '{WHOLE}', '\\1')"
    if target.kind == "binary":
        number = f"CASE lower({text}) WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE {number} END"
    return f"CASE WHEN NOT isnan({number}) THEN {number} END"


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
            flat = model.config.source.file
            _require_declared(flat.path if flat else model.file(file), types, declared)
        except SourceMismatch as error:
            if relation.limit(1).fetchall():  # the columns of a file without rows have no type
                raise SourceMismatch(f"{error}{_first_texts(model.config, types, files)}") from None
        target, features = model.config.target, model.config.features
        values = {c: f"CAST({quoted(c)} AS {casts.get(c, 'VARCHAR')})" for c in declared}
        values |= {target.column: outcome_sql(target)} if target.column in declared else {}
        exact = (c for c in features.numeric if c in declared and is_number(types.get(c, "")))
        values |= {c: number_sql(c, types[c], file=literal(file)) for c in exact}
        columns = ", ".join(f"{value} AS {quoted(c)}" for c, value in values.items())
        first, second = list(declared)[:2]
        order = quoted(first) if second == target.column else f"{quoted(second)}, {quoted(first)}"
        rows = relation.project(columns).order(order).to_arrow_table()
        if not model.config.source.file:
            _require_exact_keys(con, model.file(file), rows, model.config.key)
        return rows


def _first_texts(config: ModelConfig, types: dict[str, str], files: dict[str, list[Path]]) -> str:
    """Where CSV files have text in columns of the names of numeric features that the query returns as text; empty if nowhere."""
    names = [name for name in config.features.numeric if types.get(name) == "VARCHAR"]
    paths = [path for paths in files.values() for path in paths if is_csv(path)]
    found = ((path, name, *find_text(path, name)) for name in names for path in paths)
    first = [
        f"{path}: line {line}: column {name!r}: {hider(config)(name, value)!r}"
        for path, name, line, value in found
        if line
    ]
    return f". First text: {first[0]}" if first else ""


def _require_exact_keys(con: "duckdb.DuckDBPyConnection", file: Path, rows: "pa.Table", key: str) -> None:
    """Refuse keys that are all whole numbers in floating point as text: in a file without a missing one `9.0` is `9`."""
    import pyarrow.compute as pc

    if con.execute(
        "SELECT 1 FROM duckdb_columns() WHERE NOT internal AND lower(column_name) = lower($1)", [key]
    ).fetchall():
        return  # its view has it as text or whole numbers
    keys = rows.column(key).drop_null()
    if len(keys) and pc.all(pc.match_substring_regex(keys, FLOAT_KEY)).as_py():
        raise SourceMismatch(
            f"{file}: the key {key!r} is a whole number in floating point in all {len(keys):,} rows, as pandas stores integers if one is "
            f"missing; use CAST(CAST(x AS BIGINT) AS VARCHAR) with its column"
        )


def _used(sql: str, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a query uses. DuckDB refuses others."""
    return {name: value for name, value in params.items() if f"${name}" in sql}


def _require_declared(file: Path | str, types: dict[str, str], declared: dict[str, tuple[str, ...]]) -> None:
    """Refuse a query that returns other columns than declared, or columns of another kind."""
    missing, extra = sorted(declared.keys() - types.keys()), sorted(types.keys() - declared.keys())
    if missing:
        same = [other for other in extra if other.lower() in map(str.lower, missing)]
        hint = f"it returns {', '.join(same)}: use the letters of model.yaml" if same else "add it to the SELECT"
        raise ConfigError(
            f"{file}: does not return {', '.join(missing)}, which model.yaml declares; {hint}, or remove it from model.yaml"
        )
    if extra:
        raise ConfigError(
            f"{file}: returns {', '.join(extra)}, which model.yaml does not declare; declare it as a feature, or remove it from the SELECT"
        )
    for name, kinds in declared.items():
        own = (
            types[name] if types[name].endswith("]") else types[name].partition("(")[0]
        )  # DECIMAL(9,2), but no lists of them
        if own not in kinds:
            other = ", or move it to the other feature list" if kinds in (NUMBERS, TEXTS) else ""
            raise SourceMismatch(
                f"{file}: column {name!r} is {types[name]}, but must be {_kind(kinds)}; cast it{other}"
            )


def _kind(kinds: tuple[str, ...]) -> str:
    return {NUMBERS: "a number", TEXTS: "text", ZONED: "a timestamp with time zone", OUTCOMES: "a number or text"}[
        kinds
    ]
