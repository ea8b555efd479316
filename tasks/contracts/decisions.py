"""The rows of the database: facts, the policy's decisions, the ledger's changes of stage; and how a training ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tasks.contracts.judging import Comparison, GateDecision
from tasks.contracts.learning import Selection, Version, Window


@dataclass(frozen=True)
class Fact:
    """Something that was seen of a model, as a row with an id. An event only tells of it.

    The same observation has the same id, so writing or sending it twice is harmless.
    """

    id: str
    model: str
    kind: Literal["drift", "alias"]
    partition: str
    as_of: datetime
    payload: Mapping[str, Any]
    recorded_at: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """What the policy made of a fact: `retrain` or `decline`, by which rule and why.

    `outcome` is empty while the retraining runs, then how it ended.
    """

    fact_id: str
    model: str
    as_of: datetime
    action: Literal["retrain", "decline"]
    rule: str
    reason: str
    flow_run: str = ""
    outcome: Literal["", "promoted", "staged", "refused", "failed"] = ""
    detail: str = ""
    version: str = ""
    recorded_at: datetime | None = None


Action = Literal["register", "stage", "request", "promote", "refuse", "retire", "rollback", "adopt", "restore"]


ModelStage = Literal["", "candidate", "challenger", "champion", "refused", "retired"]


AFTER: Mapping[str, ModelStage] = {
    "register": "candidate",
    "stage": "challenger",
    "request": "challenger",
    "promote": "champion",
    "adopt": "champion",
    "rollback": "champion",
    "restore": "champion",
    "refuse": "refused",
    "retire": "retired",
}
"""The stage that each action leads to."""


@dataclass(frozen=True)
class Promotion:
    """One row of the ledger: a version's change of stage, and why.

    A row that makes a champion counts for partitions whose as-of is after its own. `previous` and
    `against` are version and sequence of the champion it was decided against; the ledger refuses
    the row when that is champion no longer. `hash` covers every other field and the row before.
    """

    model: str
    sequence: int
    action: Action
    version: str
    previous: str | None
    as_of: datetime
    window_end: datetime
    by: str
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""
    flow_run: str = ""
    against: int = 0
    assurance: Literal["automation", "asserted", "authenticated"] = "automation"
    """How sure `by` is: the automation itself, a name that somebody typed, or one behind a server with authentication."""
    from_stage: ModelStage = ""
    to_stage: ModelStage = ""
    recorded_at: datetime | None = None
    previous_hash: str = ""
    hash: str = ""


@dataclass(frozen=True)
class Training:
    """How a training ended: what it tried, the versions it made, what the gate said, and what came of it.

    Where no candidate beats the baseline there is nothing to fit: no version, no comparison, and a decision that says so.
    """

    window: Window
    selection: Selection
    decision: GateDecision
    challenger: Version | None = None
    comparison: Comparison | None = None
    final: Version | None = None
    """The version that was staged: the refit, or the challenger itself."""
    row: Promotion | None = None
    """The ledger's last row about it."""

    @property
    def version(self) -> str:
        """Number of the version that it came to; empty where there was none."""
        made = self.final or self.challenger
        return made.version if made else ""
