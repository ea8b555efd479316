"""A replay: the simulated result of one policy on history, for each partition and in total."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tasks.contracts.decisions import Decision, Fact, Hindsight, Promotion


@dataclass(frozen=True)
class PartitionResult:
    """One partition of a replay.

    Attributes:
        partition: The partition's key.
        as_of: The moment at which it was assessed.
        version: The version that scored it, empty if it could not be scored.
        rows: Rows with a label.
        metrics: Metrics by name, None if a metric could not be computed.
        intervals: Confidence interval of each metric that has one: lower and upper bound.
        blocks: As in a performance record: block, labelled rows, sum of their losses.
        note: Why it was not scored or not assessed.
    """

    partition: str
    as_of: datetime
    version: str = ""
    rows: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    blocks: tuple[tuple[float, ...], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class PolicyRun:
    """The result of one policy on a range of partitions. `told` has the policy's settings as in model.yaml."""

    policy: str
    steps: tuple[PartitionResult, ...]
    facts: tuple[Fact, ...]
    decisions: tuple[Decision, ...]
    promotions: tuple[Promotion, ...]
    hindsights: tuple[Hindsight, ...]
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def retrainings(self) -> tuple[Decision, ...]:
        """The decisions to retrain, including those whose challenger the gate refused."""
        return tuple(d for d in self.decisions if d.action == "retrain")
