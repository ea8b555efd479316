"""One partition: its identity, the record of each output, and the result of a run over its steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal


class Stage(StrEnum):
    """The outputs of a partition's steps. Each is a folder of the lake."""

    RAW = "raw"
    VALID = "valid"
    QUARANTINE = "quarantine"
    SKETCHES = "sketches"
    PREDICTIONS = "predictions"
    ESTIMATES = "estimates"
    MONITORING = "monitoring"
    SHADOW = "shadow"
    FORMER = "former"
    LABELS = "labels"
    PERFORMANCE = "performance"
    STALENESS = "staleness"


@dataclass(frozen=True)
class PartitionRef:
    """One partition of one model, and the moment as of which it is looked at.

    Attributes:
        key: The partition's name, such as `2013-05`.
        start: Inclusive.
        end: Exclusive.
        complete: When its rows are complete: its end plus `partition.grace`. From then on it is processed.
        matured: When its labels have matured: its end plus `target.delay`, at least `complete`. From then on it is assessed.
        chosen: The moment that was asked for, None for the partition's own moments.
    """

    model: str
    key: str
    start: datetime
    end: datetime
    complete: datetime
    matured: datetime
    chosen: datetime | None = None

    @property
    def as_of(self) -> datetime:
        """The point in time of every decision about the partition. Only data known by then is used."""
        return self.chosen or self.complete

    def at(self, moment: datetime) -> "PartitionRef":
        """The same partition as of a moment."""
        return replace(self, chosen=moment)

    def __str__(self) -> str:
        return f"{self.model} {self.key}"


@dataclass(frozen=True)
class RunInfo:
    """The run that wrote a record, in wall-clock time. Freshness does not depend on it.

    Attributes:
        files: SHA-256 of the other files that it wrote (quarantined rows, a page), by their path below the model's folder in the lake.
        checksum: Digest of all other values of the record. Empty in records of v0.1, as `files` is.
        peak_bytes: Most resident memory of the process until it wrote the record, so of earlier steps in it too. 0 if it is not known.
    """

    started: datetime
    seconds: float
    flow_run: str = ""
    git_commit: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    checksum: str = ""
    peak_bytes: int = 0


@dataclass(frozen=True)
class Record:
    """The metadata of one output of one partition. It is stored beside the data and written after it.

    Attributes:
        version: Version of the step's code, increased when its output changes.
        digest: SHA-256 of the data file's bytes, or of `data` if the output has no file.
        inputs: Digests of the step's inputs by name: files, records, configuration, the champion's version.
        data: Further values, which depend on the output.
    """

    model: str
    stage: Stage
    partition: str
    as_of: datetime
    version: int
    status: Literal["done", "blocked"]
    rows: int
    digest: str
    inputs: Mapping[str, str]
    data: Mapping[str, Any] = field(default_factory=dict)
    run: RunInfo | None = None

    @property
    def reason(self) -> str:
        """Why the partition is blocked, empty if it is not."""
        return str(self.data.get("reason", ""))

    @property
    def empty(self) -> bool:
        """Whether the source has no rows for the partition. Its status is `done`. The records of raw and valid rows have it."""
        return bool(self.data.get("empty"))


@dataclass(frozen=True)
class Freshness:
    """Whether an output of a partition has to be computed, and why. `needs` is the output of the same partition it waits for."""

    state: Literal["fresh", "missing", "stale", "blocked", "failed", "waiting"]
    why: str = ""
    needs: Stage | None = None


@dataclass(frozen=True)
class PartitionRun:
    """The result of running some steps of one partition.

    Attributes:
        steps: Verb, state (`made`, `fresh`, `blocked`, `waiting` or `failed`) and reason of each step.
        newly_blocked: Why this run blocked the partition, empty if it did not.
    """

    partition: str
    steps: tuple[tuple[str, str, str], ...]
    newly_blocked: str = ""

    @property
    def steps_run(self) -> tuple[str, ...]:
        """Verbs of the steps that ran."""
        return tuple(verb for verb, state, _ in self.steps if state == "made")

    @property
    def had_work(self) -> bool:
        """Whether any step ran, failed or is blocked. False if all are fresh or waiting."""
        return any(state not in ("fresh", "waiting") for _, state, _ in self.steps)
