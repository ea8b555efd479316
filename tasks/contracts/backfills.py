"""A backfill: what was asked for, what will be done to each partition and why, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["missing", "failed", "stale", "all"]
"""`failed`: what failed or was blocked. `missing`: what is not there, failed or not. `stale`: that, and what is no longer
what its inputs make. `all`: everything, even what is fresh."""
Order = Literal["oldest first", "newest first"]
StageChoice = Literal["ingest", "validate", "score", "watch", "assess"]
ChampionChoice = Literal["then", "now"]
Runner = Literal["threads", "dask"]


@dataclass(frozen=True)
class Request:
    """What a person asks of a backfill: everything that decides what will be done, and nothing of how fast."""

    model: str
    start: str
    end: str
    stages: tuple[StageChoice, ...]
    mode: Mode = "missing"
    order: Order = "oldest first"
    champion: ChampionChoice = "then"
    override: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """What will be done to one stage of one partition, and why.

    `make` runs it, `again` runs it though it is fresh, `keep` passes over what is fresh, `leave` over what the mode does not
    take up, `wait` over what cannot be made yet.
    """

    verb: str
    action: Literal["make", "again", "keep", "leave", "wait"]
    why: str = ""
    inputs: str = ""
    """Digest of what it would be made from, where that is there already: a plan is for these."""


@dataclass(frozen=True)
class Plan:
    """What will be done, partition by partition in the order of the work. `digest` is of the request and the cells."""

    request: Request
    variant: str
    cells: Mapping[str, tuple[Cell, ...]]
    digest: str
    rows: Mapping[str, int | None] = field(default_factory=dict)
    """Rows of each partition as it was ingested last; None where it never was."""
    seconds: float | None = None
    """Of work on one core, from the records of earlier runs; None where there are none."""

    @property
    def todo(self) -> tuple[str, ...]:
        """The partitions that have something to do, in order."""
        return tuple(key for key, cells in self.cells.items() if any(c.action in ("make", "again") for c in cells))


@dataclass(frozen=True)
class Outcome:
    """What came of one partition: how it passed, why it failed, or who else is at work on it."""

    partition: str
    passed: tuple[tuple[str, str, str], ...] = ()
    """Verb, state and why of each step, as in a `PartitionRun`."""
    blocked: str = ""
    failed: str = ""
    occupied: str = ""
    untouched: bool = False
    """It was not begun: the backfill was cancelled."""
