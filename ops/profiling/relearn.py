"""Expectations from the validated partitions of a model, by the function that `make model FROM=` uses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from configs.errors import ConfigError
from configs.flat import quoted
from ops.profiling.data import SOURCE, STORED
from ops.profiling.describe import describe
from ops.profiling.expectations import BETWEEN, IN_SET, Check, expectations
from ops.profiling.features import Features
from ops.profiling.values import Column, Periods
from tasks.contracts import Stage
from tasks.resources import Resources

if TYPE_CHECKING:
    import duckdb


def learn(res: Resources, partitions: int | None = None) -> tuple[list[Check], str]:
    """Return the expectations of the newest validated partitions, and which rows they were learned from.

    Args:
        res: The resources of the model.
        partitions: Number of partitions. By default those of the training window, or all.

    Raises:
        ConfigError: No partition was validated.
    """
    import duckdb

    records = [record for key in res.lake.keys(Stage.VALID) if (record := res.lake.record(Stage.VALID, key))]
    keys = [record.partition for record in records if record.status == "done" and record.rows]
    keys = keys[-(partitions or res.config.training.window.partitions or len(keys)) :]
    if not keys:
        raise ConfigError(
            f"{res.config.name}: no partition is validated, so there are no rows to learn from; run `backfill` or `process` first"
        )
    with duckdb.connect(config={"threads": 2}) as con:
        con.execute("SET TimeZone = 'UTC'")
        columns = _store(con, keys, res)
        described = {column.name: column for column in describe(con, columns)}
        features = _features(res, described)
        checks = expectations(con, features, res.config.time, _periods(res, keys), {name: name for name in described})
        rows = described[res.config.time].rows
    personal = {*res.config.personal}
    kept = [check for check in checks if check.type not in (BETWEEN, IN_SET) or check.kwargs["column"] not in personal]
    return kept, f"{rows:,} valid rows of {keys[0]} to {keys[-1]}" if len(
        keys
    ) > 1 else f"{rows:,} valid rows of {keys[0]}"


def _store(con: "duckdb.DuckDBPyConnection", keys: Sequence[str], res: Resources) -> list[Column]:
    """Put the valid rows into the table `STORED`, one partition at a time, and return its columns."""
    active, time = res.config.features.active, res.config.time
    numbers = [_number(name) for name in active.numeric]
    texts = [Column(name, "VARCHAR", "text", f"CAST({quoted(name)} AS VARCHAR)") for name in active.categorical]
    columns = [*numbers, *texts, Column(time, "TIMESTAMPTZ", "time", f"CAST({quoted(time)} AS TIMESTAMPTZ)")]
    types = {column.name: "DOUBLE" if column.type == "number" else column.stored for column in columns}
    fields = ", ".join(f"{quoted(name)} {kind}" for name, kind in types.items())
    con.execute(f"CREATE TABLE {STORED} ({fields}, {quoted(SOURCE)} VARCHAR)")
    values = ", ".join(f"CAST({quoted(name)} AS {kind})" for name, kind in types.items())
    for key in keys:
        con.register("partition_rows", res.lake.read(Stage.VALID, key, [*types]))
        con.execute(f"INSERT INTO {STORED} SELECT {values}, ? FROM partition_rows", [key])  # noqa: S608  (of model.yaml)
        con.unregister("partition_rows")
    return columns


def _number(name: str) -> Column:
    value = quoted(name)
    return Column(name, "DOUBLE", "number", f"CASE WHEN isfinite({value}) THEN {value} END")


def _features(res: Resources, columns: dict[str, Column]) -> Features:
    active = res.config.features.active
    numeric, categorical = (tuple(columns[name] for name in names) for names in (active.numeric, active.categorical))
    return Features(numeric, categorical, {}, {}, {})


def _periods(res: Resources, keys: Sequence[str]) -> Periods:
    """Return the partitions with the numbers of their rows before validation: those are what the expectation of rows counts."""
    config = res.config
    raw = [record.rows for key in keys if (record := res.lake.record(Stage.RAW, key))]
    gain, holdout = config.gate.gain, config.training.window.holdout
    every, zone = config.partition.every, config.partition.timezone
    return Periods(every, zone, tuple(keys), raw, holdout, gain.block, gain.min_blocks, 0, 0, config.target.delay, {})
