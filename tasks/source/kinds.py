"""The kinds of tables, behind one contract: files, Delta tables and tables of databases. A further kind is a further class in `_kind`."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from configs.load import Model
from configs.source import Table
from tasks.contracts import PartitionRef
from tasks.errors import MissingSource
from tasks.source.database import DatabaseTable
from tasks.source.delta import DeltaTable
from tasks.source.extracts import hold
from tasks.source.file_table import FileTable, RemoteTable


class SourceTable(Protocol):
    """One table of model.yaml, wherever its rows are. All ranges are `[start, end)` of aware times.

    Its rows reach the model's SQL as local files, in which DuckDB hides what became known after a cutoff. So a kind keeps the contract
    against target leakage if its files have the columns that `known_at` and `outcomes_known_at` use.

    Attributes:
        is_ranged: Whether only the files or rows of a range are read, and not all.
        expected: What is missing if it does not cover a range, for messages.
        empty: What is missing if it has nothing at all, for messages.
    """

    is_ranged: bool
    expected: str
    empty: str

    def span(self) -> tuple[datetime, datetime] | None:
        """From the start of its first file or row to before the end of its last one. None if there is none."""
        ...

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether it has something for a range, so that a partition can be read."""
        ...

    def fingerprint(self, start: datetime, end: datetime) -> Sequence[Any]:
        """Values of JSON that change if what is read for a range changes. They are computed for each look at a partition's freshness."""
        ...

    def files(self, start: datetime, end: datetime) -> list[Path]:
        """Local files with the rows of a range. Rows from before the newest `fingerprint` of this process must not be in them."""
        ...

    def arrived(self, until: datetime) -> tuple[Sequence[tuple[Any, ...]], datetime | None]:
        """A state that changes when rows from before a moment may have come, and the end of the newest partition that can have some.

        The state is empty if there are none.
        """
        ...

    def unplaced(self) -> str:
        """Describe rows of a flat table that are in no range, and therefore in no file of `files`; empty if there are none."""
        ...


def open_tables(model: Model) -> dict[str, SourceTable]:
    """The tables of a model by their names in its SQL."""
    return {name: _kind(table)(model, name, table) for name, table in model.config.source.views.items()}


def _kind(table: Table) -> Callable[[Model, str, Table], SourceTable]:
    if table.is_database:
        return DatabaseTable
    if table.delta is not None:
        return DeltaTable
    return RemoteTable if table.is_remote else FileTable


def source_files(model: Model, ref: PartitionRef) -> dict[str, list[Path]]:
    """The local files that a partition is read from, with `source.lookback`, by table. Rows from elsewhere are fetched into some.

    Raises:
        MissingSource: a table has nothing for the partition's own range.
    """
    tables = open_tables(model)
    require_covered(tables, ref)
    files: dict[str, list[Path]] = {}
    with ExitStack() as held:  # fetching one table may take longer than files of another are kept
        for name, table in tables.items():
            files[name] = table.files(ref.start - model.config.source.lookback, ref.end)
            held.enter_context(hold(files[name]))
    return files


def require_covered(tables: dict[str, SourceTable], ref: PartitionRef) -> None:
    """Require that each table has something for the partition's own range.

    Raises:
        MissingSource: one has not.
    """
    for name, table in tables.items():
        if not table.covers(ref.start, ref.end):
            raise MissingSource(f"{ref}: table {name!r} has {table.expected}; there is nothing to ingest yet")


def is_covered(model: Model, ref: PartitionRef) -> bool:
    """Whether every table has something for the partition's own range."""
    return all(table.covers(ref.start, ref.end) for table in open_tables(model).values())
