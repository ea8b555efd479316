"""The way of one partition: which it is, what is recorded of each stage, and how a run went through them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal


class Stage(StrEnum):
    """The steps of one partition, each one folder of the lake."""

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


@dataclass(frozen=True)
class PartitionRef:
    """One partition of one model, looked at from one moment.

    `key` is the partition's name (`2013-05`), `start` and `end` its half-open range, and
    `as_of` the moment that every decision about it pretends to be at.
    """

    model: str
    key: str
    start: datetime
    end: datetime
    as_of: datetime

    def __str__(self) -> str:
        return f"{self.model} {self.key}"


@dataclass(frozen=True)
class RunInfo:
    """Who made a record, and when by the clock. Takes no part in comparisons."""

    started: datetime
    seconds: float
    flow_run: str = ""
    git_commit: str = ""


@dataclass(frozen=True)
class Record:
    """What is known of one stage of one partition. Stands beside its data, written after it.

    `digest` is the SHA-256 of the data file's bytes, or of `data` where a stage has no file.
    `inputs` names what it was made from: digests of files, records, configuration, the
    champion's version. `version` is the stage's own number, raised when its output changes.
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
        """Why the partition is blocked, in a sentence; empty when it is not."""
        return str(self.data.get("reason", ""))


@dataclass(frozen=True)
class Freshness:
    """Whether a stage of a partition needs work, and why."""

    state: Literal["fresh", "missing", "stale", "blocked", "failed", "waiting"]
    why: str = ""
    needs: Stage | None = None
    """The stage of the same partition that it waits for, where that is what it waits for."""


@dataclass(frozen=True)
class PartitionRun:
    """How one partition went through some steps: for each step made, fresh, blocked or waiting, and why."""

    partition: str
    steps: tuple[tuple[str, str, str], ...]
    newly_blocked: str = ""
    """Why this run blocked the partition; empty when it did not."""

    @property
    def made(self) -> tuple[str, ...]:
        """The steps that had something to do."""
        return tuple(verb for verb, state, _ in self.steps if state == "made")

    @property
    def had_work(self) -> bool:
        """Whether any step ran, failed or is blocked."""
        return any(state not in ("fresh", "waiting") for _, state, _ in self.steps)
