"""Schema of `publish:` in model.yaml: the places outside of the lake that get a model's outputs."""

import re
from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Literal, Self

from pydantic import Field, model_validator

from configs.addresses import secret_problem
from configs.base import Name, Strict

Output = Literal["predictions", "quarantine", "performance", "decisions"]
PLACEHOLDERS = ("model", "partition")
"""Names in braces that a path may have."""
ADDED = ("model", "partition", "as_of", "model_version")
"""Columns that each sent row has in addition to the model's own."""


class Sink(Strict):
    """One place that gets an output of each partition: a table of a database, a Delta table, or a file for each partition."""

    output: Output = Field(
        "predictions",
        description="what is sent: predictions; quarantine, the invalid rows with their reasons; performance, one row per metric; "
        "decisions, one row per decision about a retraining",
    )
    table: str | None = Field(
        None,
        description="table of the database of `connection` (PostgreSQL or SQLite), such as ml.flights_predictions; it is created if it "
        "does not exist",
    )
    delta: str | None = Field(
        None,
        description="Delta table: a folder, or an address such as s3://bucket/predictions; it is created if needed",
    )
    path: str | None = Field(
        None,
        description="Parquet file of each partition: a path, or an address that fsspec supports, with {partition} and, if wanted, {model}",
    )
    connection: Name | None = Field(
        None,
        description="with `table`: the database, by EVERGREEN_CONNECTION_<NAME> or the Prefect secret block evergreen-connection-<name>. "
        "With `delta` or `path`: a JSON object of the library's storage options, from there too; by default the library's own variables",
    )
    personal: Literal["hash", "keep"] = Field(
        "hash", description="values of the columns in `personal`: send their keyed hash, or the values as they are"
    )

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if sum(place is not None for place in (self.table, self.delta, self.path)) != 1:
            raise ValueError("give one of `table` (with `connection`), `delta` and `path`")
        if self.table is not None and self.connection is None:
            raise ValueError("connection: is missing; a table needs the name of a connection to its database")
        if self.table is not None and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)?", self.table):
            raise ValueError(f"table: {self.table!r} is not a name such as ml.predictions")
        if self.path is not None and (problem := _path_problem(self.path)):
            raise ValueError(f"path: {self.path!r}: {problem}")
        if problem := secret_problem(self.delta or self.path or ""):
            raise ValueError(problem)
        return self

    @property
    def place(self) -> str:
        """Where the rows go, for messages and records. It has no secret."""
        return f"table {self.table} of connection {self.connection!r}" if self.table else str(self.delta or self.path)


def _path_problem(path: str) -> str:
    try:
        names = [name for _, name, spec, conversion in Formatter().parse(path) if name is not None]
    except ValueError as error:
        return str(error)
    if unknown := [name for name in names if name not in PLACEHOLDERS]:
        return f"{{{unknown[0]}}} is unknown; it may have {{partition}} and {{model}}"
    if "partition" not in names:
        return "has no {partition}, so each partition would replace the one before"
    return "" if path.endswith(".parquet") else "must end with .parquet"


def publish_problem(
    sinks: Mapping[str, Sink], sent: Mapping[Output, tuple[str, ...]], is_one_of_many: bool = False
) -> str:
    """Return why these sinks cannot work together or with the columns that they send, beginning with the key; empty if they can.

    Args:
        sinks: The sinks by their name.
        sent: The columns of the model that each output has.
        is_one_of_many: Whether it is a model of `for_each`, which others share the sinks with.
    """
    for name, sink in sinks.items() if is_one_of_many else ():
        if sink.path and "{model}" not in sink.path:
            return f"publish.{name}.path: has no {{model}}, so the models of for_each would replace each other's files; add it"
    return next(_problems(sinks, sent), "")


def _problems(sinks: Mapping[str, Sink], sent: Mapping[Output, tuple[str, ...]]) -> Iterator[str]:
    places: dict[tuple[str | None, ...], str] = {}
    for name, sink in sinks.items():
        if (other := places.setdefault((sink.connection, sink.table, sink.delta, sink.path), name)) != name:
            yield (
                f"publish.{name}: has the same target as publish.{other}, {sink.place}: each would delete the other's rows; choose another"
            )
        if taken := [column for column in sent.get(sink.output, ()) if column.lower() in ADDED]:
            yield (
                f"publish.{name}: {taken[0]}: each sent row has a column of this name; use another name for the model's column in "
                f"source.sql"
            )
