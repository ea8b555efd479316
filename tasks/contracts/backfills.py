"""A backfill: the request, the plan with one action for each step of each partition, and the outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["missing", "failed", "stale", "all", "verify"]
"""Which outputs a backfill computes. Each mode but the last includes the ones before it:

- `failed`: outputs whose last attempt failed or was blocked.
- `missing`: outputs that do not exist, whether they failed or were never computed.
- `stale`: outputs whose inputs have changed since they were computed.
- `all`: every output, fresh ones too.
- `verify`: outputs whose files or records are damaged.
"""
Order = Literal["oldest first", "newest first"]
StageChoice = Literal["ingest", "validate", "score", "watch", "assess"]
ChampionChoice = Literal["then", "now"]
Runner = Literal["threads", "dask"]


@dataclass(frozen=True)
class Request:
    """A request for a backfill: everything that determines which steps will run. Speed and parallelism are not part of it."""

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
    """The planned action for one step of one partition.

    Attributes:
        verb: The step, such as `ingest`.
        action: `make` runs the step. `again` runs it although its output is fresh. `keep` skips it because its output is fresh.
            `leave` skips it because the mode does not select it. `wait` skips it because its inputs do not exist yet.
        why: The reason.
        inputs: Digest of the step's inputs if they exist when the plan is made. The plan is valid only for these.
    """

    verb: str
    action: Literal["make", "again", "keep", "leave", "wait"]
    why: str = ""
    inputs: str = ""


@dataclass(frozen=True)
class Plan:
    """The planned actions of a backfill.

    Attributes:
        request: The request that the plan answers.
        variant: Name of the variant (`tasks.resources.Variant`), empty for production.
        cells: The actions by partition, in the order in which the partitions are processed.
        digest: Digest of the request and the cells.
        rows: Rows of each partition at its last ingest, None if it was never ingested.
        seconds: Estimated work on one core, from the records of earlier runs. None if there are none.
    """

    request: Request
    variant: str
    cells: Mapping[str, tuple[Cell, ...]]
    digest: str
    rows: Mapping[str, int | None] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def todo(self) -> tuple[str, ...]:
        """The partitions in which at least one step will run, in the order of the plan."""
        return tuple(key for key, cells in self.cells.items() if any(c.action in ("make", "again") for c in cells))


@dataclass(frozen=True)
class Outcome:
    """The result of a backfill for one partition.

    Attributes:
        partition: The partition's key.
        passed: Verb, state and reason of each step, as in a `PartitionRun`.
        blocked: Why the partition is blocked, empty if it is not.
        failed: The error that stopped it, empty if there was none.
        occupied: The claim of another process that works on the partition, empty if there is none.
        untouched: True if the partition was not started because the backfill was cancelled.
    """

    partition: str
    passed: tuple[tuple[str, str, str], ...] = ()
    blocked: str = ""
    failed: str = ""
    occupied: str = ""
    untouched: bool = False
