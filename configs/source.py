"""Schema of `source:` in model.yaml: the files, database tables and SQL of a model's rows."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from configs.addresses import address_problem, delta_problem
from configs.base import Duration, Every, Name, Strict
from configs.database import ColumnType, database_problem
from configs.paths import path_problem

FLAT = "rows"
"""Name of a flat file in its generated queries."""
KIND_KEYS: Mapping[str, tuple[str, ...]] = {
    "files": ("path", "every", "time_format", "connection", "types"),
    "Delta": ("delta", "time", "time_format", "time_zone", "connection"),
    "a database": (
        *(
            "connection",
            "table",
            "query",
            "time",
            "time_format",
            "time_zone",
            "types",
            "watermark",
            "fingerprint",
            "timeout",
        ),
    ),
}
"""The keys that each kind of table may have, beside those about what was known when."""
NEEDED = {
    "files": "give `path` alone",
    "Delta": "give `delta` instead of `path`",
    "a database": "give `connection` with `table` or `query` instead of `path`",
}


class Table(Strict):
    """One table that the SQL can read by its name: Parquet or CSV files, a Delta table, or a table of a database."""

    path: str = Field(
        "",
        description="file, or address such as s3://bucket/sales.parquet; * and ? match several; with `every`, %Y, %m, %d, %H (or %G-W%V "
        "for weeks) in the name or in folders stand for the start of the file's period",
    )
    every: Every | None = Field(None, description="period of one file, in the partitions' time zone")
    time_format: str | None = Field(
        None,
        description="format of times that are text, as in `strptime`: %d/%m/%Y %H:%M; by default ISO 8601. Other text is refused. "
        "Of a database or a Delta table: how `time` is stored, `epoch`, `epoch_ms` and `epoch_us` too",
    )
    delta: str | None = Field(None, description="folder or address of a Delta table, such as s3://bucket/sales")
    connection: Name | None = Field(
        None,
        description="EVERGREEN_CONNECTION_<NAME> in the environment, else the Prefect secret block evergreen-connection-<name>, has the "
        "address of a database, or for files and Delta tables at an address the options of the storage as JSON",
    )
    table: str | None = Field(None, description="name of the database's table, such as sales.orders")
    query: str | None = Field(
        None,
        description="instead of `table`: SQL that runs in the database. $start and $end become literals of the partition's range, with "
        "`lookback`",
    )
    time: str | None = Field(
        None,
        description="column of a database's or a Delta table: only rows of the partition's range, with `lookback`, are read. Without "
        "it all are",
    )
    time_zone: str | None = Field(
        None,
        description="zone of a `time` that is stored without one; by default UTC, and of a `source.file` the partitions' zone",
    )
    types: Mapping[str, ColumnType] = Field(
        {},
        description="types by column, to which the database's values are cast, or those of columns in the names of folders",
    )
    watermark: str | None = Field(
        None,
        description="column that grows with each change of a row: its maximum and the number of rows decide whether a range has changed",
    )
    fingerprint: str | None = Field(
        None,
        description="SQL whose one row decides whether a range has changed; by default a digest of all its rows. $start and $end as in "
        "`query`",
    )
    timeout: Duration = Field(timedelta(minutes=30), description="longest time of one query of the database")
    known_at: str | None = Field(
        None,
        description="SQL expression: time when a row becomes known; the leakage check hides rows that are known later",
    )
    outcomes: tuple[str, ...] = Field((), description="columns that are known only at `outcomes_known_at`")
    outcomes_known_at: str | None = Field(None, description="SQL expression: time when the outcomes become known")

    @model_serializer(mode="wrap")
    def _omit_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `delta` if there is none, so that digests are those of before this key existed."""
        content: dict[str, Any] = serialize(self)
        return {name: value for name, value in content.items() if value is not None or name != "delta"}

    @model_validator(mode="after")
    def _outcomes_have_a_time(self) -> Self:
        if bool(self.outcomes) != bool(self.outcomes_known_at):
            raise ValueError("`outcomes` and `outcomes_known_at` go together: give both or neither")
        kind = "a database" if self.is_database else "Delta" if self.delta is not None else "files"
        self._require_keys(kind)
        if problem := self._problem():
            raise ValueError(problem)
        return self

    def _require_keys(self, kind: str) -> None:
        """Refuse keys that are for another kind of table."""
        for other, keys in KIND_KEYS.items():
            for name in keys:
                if name not in KIND_KEYS[kind] and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name}: is for a table of {other}, but this table is one of {kind}; remove it, or {NEEDED[other]}"
                    )

    def _problem(self) -> str:
        """Why the table cannot be read with these keys, and what to write instead; empty if it can."""
        if self.is_database or (self.connection and not self.path and self.delta is None):
            if not self.connection:
                return "connection: is missing; `table` and `query` are in the database of a connection"
            return database_problem(
                self.table, self.query, self.time, self.time_format, self.time_zone, self.watermark, self.fingerprint
            )
        if self.delta is not None:
            return delta_problem(self.delta, self.time, self.time_format, self.time_zone, self.connection)
        if not self.path:
            return "give `path`, or `delta`, or `connection` with `table` or `query`"
        if self.time_format and not re.search("%[Yy]", self.time_format):
            return f"time_format: {self.time_format!r} has no year; write a format such as %d/%m/%Y %H:%M"
        if self.connection and not self.is_remote:
            return (
                f"connection: is for an address such as s3://bucket/..., but the path {self.path!r} is local; remove it"
            )
        problem = address_problem(self.path, self.every) if self.is_remote else path_problem(self.path, self.every)
        return f"path: {self.path!r}: {problem}" if problem else ""

    @property
    def is_database(self) -> bool:
        """Whether it is a table of a database."""
        return self.table is not None or self.query is not None

    @property
    def is_selected(self) -> bool:
        """Whether its rows are selected by their time, and not by the files in which they are."""
        return self.is_database or self.delta is not None

    @property
    def is_remote(self) -> bool:
        """Whether its files are at an address, and not local."""
        return "://" in self.path

    @property
    def is_ranged(self) -> bool:
        """Whether only the files or rows of a partition's range are read."""
        return self.every is not None or self.time is not None

    @property
    def place(self) -> str:
        """Where its rows are, for messages."""
        if not self.is_database:
            return self.path or f"the Delta table {self.delta}"
        return f"{f'table {self.table}' if self.table else 'the query'} of connection {self.connection!r}"


class Source(Strict):
    """Source of the rows: one flat file, or tables and DuckDB SQL with the parameters `$start` and `$end`."""

    file: Table | None = Field(
        None,
        description="a file with all columns of the model and the outcome, so that no SQL is needed. "
        "A time without a zone is in the partitions' zone; a null outcome is not known yet",
    )
    tables: Mapping[Name, Table] = Field({}, description="tables by the name that the SQL uses")
    sql: str = Field("source.sql", description="file in the model's folder: key, time and features of [$start, $end)")
    labels: str = Field(
        "labels.sql",
        description="file in the model's folder: key, target, known_at of [$start, $end). A null target "
        "with a known_at: there will never be an outcome. Rows whose outcome is not known yet are left out",
    )
    lookback: Duration = Field(timedelta(0), description="how far before the start of a partition the SQL reads")
    ahead: Duration = Field(
        timedelta(days=1),
        description="how far after the present the time of a row of a file without `every` may lie; later ones are refused",
    )
    due_within: Duration | None = Field(
        None,
        description="time after a partition is complete within which it must be processed; an alert and the event "
        "`evergreen.partition.late` if it is not. Off by default",
    )
    served_from: str | None = Field(
        None,
        description="partition from which on the rows are the served requests; outcomes still come from the tables",
    )

    @model_validator(mode="after")
    def _file_or_tables(self) -> Self:
        if (self.file is None) == (not self.tables):
            raise ValueError("give either `file` or `tables`")
        given = (n for n in ("sql", "labels", "lookback") if getattr(self, n) != type(self).model_fields[n].default)
        if self.file and any(given):  # not `model_fields_set`: the recorded config of a version has all keys
            raise ValueError("`sql`, `labels` and `lookback` can only be used with `tables`, not with `file`")
        if self.file and self.file.is_selected and not self.file.time:
            raise ValueError(
                "file.time: is missing; a table of a database or a Delta table needs the column of its rows' time"
            )
        return self

    @property
    def views(self) -> Mapping[str, Table]:
        """All tables by their name in a query."""
        return {FLAT: self.file} if self.file else self.tables

    def query_settings(self) -> dict[str, Any]:
        """Return the settings that determine rows and labels. Their digest is part of records."""
        return self.model_dump(exclude_defaults=True, exclude={"served_from", "ahead", "due_within"})
