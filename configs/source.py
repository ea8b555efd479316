"""Where a model's rows come from."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Self

from pydantic import Field, model_validator

from configs.base import Duration, Every, Name, Strict

FLAT = "rows"
"""What a flat file is called in the queries that are made for it."""


class Table(Strict):
    """One table that the SQL may read by its name: parquet or CSV files."""

    path: str = Field(description="file; %Y, %m, %d, %H stand for the period of one file when `every` is given")
    every: Every | None = Field(None, description="period that one file covers, in the partition's time zone")
    known_at: str | None = Field(
        None, description="SQL: when a row becomes known; rows known later are hidden from the leak check"
    )
    outcomes: tuple[str, ...] = Field((), description="columns that are known only at `outcomes_known_at`")
    outcomes_known_at: str | None = Field(
        None, description="SQL over this table: when the outcome columns become known"
    )

    @model_validator(mode="after")
    def _outcomes_have_a_time(self) -> Self:
        if bool(self.outcomes) != bool(self.outcomes_known_at):
            raise ValueError("`outcomes` and `outcomes_known_at` go together: name both or neither")
        if ("%" in self.path) != (self.every is not None):
            raise ValueError("a path with %Y, %m ... needs `every`, and `every` needs such a path")
        return self


class Source(Strict):
    """Where rows come from: one flat file, or tables and SQL on DuckDB with `$start` and `$end` bound."""

    file: Table | None = Field(
        None,
        description="a file that has every column as the model wants it, the outcome too: no SQL is needed. "
        "A time without a zone is the partition's; a null outcome is not known yet",
    )
    tables: Mapping[Name, Table] = Field({}, description="the tables by the name that the SQL uses")
    sql: str = Field("source.sql", description="file beside model.yaml: key, time and features of [$start, $end)")
    labels: str = Field("labels.sql", description="file beside model.yaml: key, target and known_at of [$start, $end)")
    lookback: Duration = Field(timedelta(0), description="how far before a partition's start the SQL reads")
    served_from: str | None = Field(
        None,
        description="partition from which on the rows are those that serving was asked about, as they were sent; "
        "outcomes come from the tables as before",
    )

    @model_validator(mode="after")
    def _file_or_tables(self) -> Self:
        if (self.file is None) == (not self.tables):
            raise ValueError("name a `file`, or `tables` for the SQL to read; one of the two")
        if self.file and self.model_fields_set & {"sql", "labels", "lookback"}:
            raise ValueError("a `file` is read as it is; `sql`, `labels` and `lookback` go with `tables`")
        return self

    @property
    def views(self) -> Mapping[str, Table]:
        """Every table by its name in a query."""
        return {FLAT: self.file} if self.file else self.tables

    def queried(self) -> dict[str, Any]:
        """What decides what a partition's rows and labels are: its digest goes into their records."""
        return self.model_dump(exclude_defaults=True, exclude={"served_from"})
