"""A replay: what one policy would have done on history, partition by partition, and what it came to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tasks.contracts.decisions import Decision, Fact, Hindsight, Promotion


@dataclass(frozen=True)
class PartitionResult:
    """One partition of a replay. `blocks` is as in a performance record: block, labelled rows, sum of their losses."""

    partition: str
    as_of: datetime
    version: str = ""
    """The version that scored it; empty where the partition could not be scored."""
    rows: int = 0
    """Rows with an outcome."""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    blocks: tuple[tuple[float, ...], ...] = ()
    note: str = ""
    """Why it was not scored or not assessed."""


@dataclass(frozen=True)
class PolicyRun:
    """What a policy came to. `retrainings` are the decisions to train, refused ones too."""

    policy: str
    steps: tuple[PartitionResult, ...]
    facts: tuple[Fact, ...]
    decisions: tuple[Decision, ...]
    promotions: tuple[Promotion, ...]
    hindsights: tuple[Hindsight, ...]
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the policy says, as model.yaml would."""

    @property
    def retrainings(self) -> tuple[Decision, ...]:
        return tuple(d for d in self.decisions if d.action == "retrain")
