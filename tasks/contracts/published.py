"""What a model publishes to other teams: columns, partitions, target and expectations, in versions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

Role = Literal["key", "time", "feature", "group", "target"]


@dataclass(frozen=True)
class PublishedColumn:
    """One column.

    Attributes:
        type: Its Arrow type, such as `double`.
        nullable: Whether valid rows may have no value of it.
        personal: Whether only a keyed hash of its values is shown outside of rows.
        whole: Whether all of its numbers are whole.
    """

    type: str
    role: Role
    nullable: bool
    personal: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Promise:
    """One check of an expectation that model.yaml declares. With severity info it only reports.

    Attributes:
        type: Its name in Great Expectations.
        columns: The columns that it is about; empty for the whole table.
        arguments: Its other arguments, as JSON values.
    """

    type: str
    columns: tuple[str, ...]
    severity: Literal["critical", "warning", "info"]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        """The check in words, without its columns: `values to be between (min_value 0, max_value 50)`."""
        name = self.type.removeprefix("expect_").removeprefix("column_").removeprefix("table_").replace("_", " ")
        arguments = ", ".join(f"{k} {_value_text(v)}" for k, v in self.arguments.items())
        return f"{name} ({arguments})" if arguments else name

    def __str__(self) -> str:
        of = f"{', '.join(self.columns)}: " if self.columns else ""
        return f"{of}{self.rule}, {self.severity}"


@dataclass(frozen=True)
class PublishedContract:
    """What other teams may rely on.

    Attributes:
        columns: The columns of the valid rows by name, and the target, which is in the labels.
        every: Length of a partition.
        grace: Time from a partition's end until it is complete.
        delay: Time from a row's own time until its label has matured.
        key_meaning: Meaning of the key in the dictionary.
        classes: The classes of a multiclass target, in the order of their probabilities.
    """

    columns: Mapping[str, PublishedColumn]
    every: str
    timezone: str
    grace: timedelta
    delay: timedelta
    key_meaning: str
    target_kind: str
    classes: tuple[str, ...]
    promises: tuple[Promise, ...]


@dataclass(frozen=True)
class ContractVersion:
    """One version of the contract in the history beside the lake.

    Attributes:
        first: The partition that was the first to be published under it, or the oldest one of a lake from before it was recorded. A
            backfill ends its partitions in any order, so older ones may have the version too. The record of each partition has its own.
        recorded_at: When that was, in wall-clock time.
    """

    version: int
    first: str
    recorded_at: datetime
    owner: str
    contract: PublishedContract


@dataclass(frozen=True)
class BreakingChange:
    """A difference between two contracts that breaks what a reader relies on.

    Attributes:
        key: The key of model.yaml, with the column where there is one.
        old: The published value as text.
        new: The value of model.yaml as text.
    """

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"


def _value_text(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)
