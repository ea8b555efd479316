"""What is known about the columns of unseen data, and the errors of `make model FROM=`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from configs.base import Every
from configs.errors import ConfigError
from configs.kinds import Kind
from configs.source import Table

ColumnType = Literal["number", "text", "time", "empty", "other"]


class UnusableData(ConfigError):
    """No model can be made from the data. The message has what is missing and what to do."""


@dataclass(frozen=True)
class Data:
    """The files of `FROM=`.

    Attributes:
        path: What `source` in model.yaml is given: a file, or a pattern.
        files: The files, sorted.
        is_csv: Whether they are text.
        every: Period of one file, if the path has dates.
        table: The table of a database whose rows the only file has, with the types of columns that need one. None for files.
        older: Number of older rows of the table that were not read.
    """

    path: str
    files: tuple[Path, ...]
    is_csv: bool
    every: Every | None = None
    table: Table | None = None
    older: int = 0

    @property
    def origin(self) -> str:
        """Number of files, or the table."""
        if self.table:
            return f"{self.table.place}{f', without {self.older:,} older rows' if self.older else ''}"
        return f"{len(self.files)} file{'s' if len(self.files) > 1 else ''}"


@dataclass(frozen=True)
class Column:
    """A column of the data and its values.

    Attributes:
        name: Name in the files.
        stored: Type in DuckDB; that of a CSV file is VARCHAR.
        type: What its values are.
        sql: Expression on the stored column with a float64, a text or a timestamp with time zone.
        formats: Formats of times that are text, as in `strptime`; `iso` for ISO 8601.
        unreadable: Values that are neither numbers nor missing in a column of numbers.
        zone: IANA time zone that a Parquet file declares, empty if there is none.
        nulls: Number of missing values, infinite and unreadable ones included.
        distinct: Number of different values: exact up to 10,000, above approximate.
        whole: Whether all numbers are whole.
        numbers: Minimum, quantiles .001, .25, .5, .75 and .999, and maximum.
        span: First and last time.
    """

    name: str
    stored: str
    type: ColumnType
    sql: str
    formats: tuple[str, ...] = ()
    unreadable: int = 0
    zone: str = ""
    rows: int = 0
    nulls: int = 0
    distinct: int = 0
    whole: bool = False
    numbers: tuple[float, ...] = ()
    span: tuple[datetime, datetime] | None = None

    @property
    def null_share(self) -> float:
        """Share of rows without a value."""
        return self.nulls / self.rows if self.rows else 1.0


@dataclass(frozen=True)
class Choice:
    """A column with a role, and the reason for it. `sure` is false if a person should check it."""

    name: str
    reason: str
    sure: bool = True


@dataclass(frozen=True)
class KeyChoice:
    """How a row is identified.

    Attributes:
        name: Name of the key in model.yaml.
        columns: The columns that identify a row; empty if a digest of the whole row does.
        duplicates: Rows whose key an earlier row has. One row of each key is kept.
        newest_by: Column whose latest value decides which of them, empty if none does.
    """

    name: str
    columns: tuple[str, ...]
    reason: str
    duplicates: int = 0
    newest_by: str = ""


@dataclass(frozen=True)
class TargetChoice:
    """The target.

    Attributes:
        name: Name of the column in the files.
        kind: Kind of the target.
        classes: Classes of a multiclass target, most frequent first.
        positive: Text or number of a binary target that counts as 1, empty if its values are 0 and 1.
        left_out: Classes with too few rows.
        counts: Rows of each value, of classes only.
    """

    name: str
    kind: Kind
    reason: str
    kind_reason: str
    sure: bool = True
    classes: tuple[str, ...] = ()
    positive: str = ""
    left_out: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Periods:
    """Partitions, and the durations that follow from them.

    Attributes:
        every: Length of a partition.
        keys: Names of the complete partitions, oldest first.
        rows: Rows of each partition, by its start, incomplete ones included.
        holdout: Newest part of the training window.
        block: Length of a block of dependent rows.
        min_blocks: Blocks that the gate needs in the holdout.
        held: Rows of a holdout.
        first: Number of complete partitions before those to play.
    """

    every: Every
    zone: str
    keys: tuple[str, ...]
    rows: Sequence[int]
    holdout: timedelta
    block: Every
    min_blocks: int
    held: int
    first: int
    delay: timedelta
    reasons: dict[str, str]
    sure_delay: bool = True
