"""Schema of `source:` in model.yaml: the files and SQL of a model's rows."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Self

from pydantic import Field, model_validator

from configs.base import Duration, Every, Name, Strict
from configs.paths import path_problem

FLAT = "rows"
"""Name of a flat file in its generated queries."""


class Table(Strict):
    """One table that the SQL can read by its name: Parquet or CSV files."""

    path: str = Field(
        description="file; * and ? match several; with `every`, %Y, %m, %d, %H (or %G-W%V for weeks) in the name or in folders "
        "stand for the start of the file's period"
    )
    every: Every | None = Field(None, description="period of one file, in the partitions' time zone")
    time_format: str | None = Field(
        None,
        description="format of times that are text, as in `strptime`: %d/%m/%Y %H:%M; by default ISO 8601. Other text is refused",
    )
    known_at: str | None = Field(
        None,
        description="SQL expression: time when a row becomes known; the leakage check hides rows that are known later",
    )
    outcomes: tuple[str, ...] = Field((), description="columns that are known only at `outcomes_known_at`")
    outcomes_known_at: str | None = Field(None, description="SQL expression: time when the outcomes become known")

    @model_validator(mode="after")
    def _outcomes_have_a_time(self) -> Self:
        if bool(self.outcomes) != bool(self.outcomes_known_at):
            raise ValueError("`outcomes` and `outcomes_known_at` go together: give both or neither")
        if self.time_format and not re.search("%[Yy]", self.time_format):
            raise ValueError(f"time_format: {self.time_format!r} has no year; write a format such as %d/%m/%Y %H:%M")
        if problem := path_problem(self.path, self.every):
            raise ValueError(f"path: {self.path!r}: {problem}")
        return self


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
        return self

    @property
    def views(self) -> Mapping[str, Table]:
        """All tables by their name in a query."""
        return {FLAT: self.file} if self.file else self.tables

    def query_settings(self) -> dict[str, Any]:
        """Return the settings that determine rows and labels. Their digest is part of records."""
        return self.model_dump(exclude_defaults=True, exclude={"served_from", "ahead", "due_within"})
