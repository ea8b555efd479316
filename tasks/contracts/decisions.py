"""The rows of the database: facts, decisions, changes of stage and what came of them; and how a training ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tasks.contracts.judging import Comparison, GateDecision, Interval
from tasks.contracts.learning import Selection, Version, Window

FactKind = Literal["drift", "decay", "estimate", "due", "person", "retry", "alias"]


@dataclass(frozen=True)
class Fact:
    """Something that was seen of a model, as a row with an id. An event only tells of it.

    `drift` of features, predictions or outcomes, `decay` of the realised and `estimate` of the estimated performance,
    `due` by time or by new labels, a `person` who asks, a `retry` of a retraining that failed, an `alias` that was moved.
    The same observation has the same id, so writing or sending it twice is harmless.
    """

    id: str
    model: str
    kind: FactKind
    partition: str
    as_of: datetime
    payload: Mapping[str, Any]
    recorded_at: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """What the policy made of a fact: `retrain` or `decline`, by which rule and why.

    `outcome` is empty while the retraining runs, then how it ended, with its version, what it cost in
    seconds of training, and what the gate said: each rule's line. `signals` are the values that the policy saw.
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
    signals: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    gate: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hindsight:
    """Whether a promotion helped, from the paired comparison with the version it replaced on the same matured rows.

    `sequence` is the promotion's in the ledger. `gain` is the loss of the version before minus the champion's, with
    one-sided bounds; None where no partition matured before the next promotion.
    """

    model: str
    sequence: int
    version: str
    previous: str
    as_of: datetime
    verdict: Literal["helped", "neutral", "hurt"]
    gain: Interval | None
    partitions: tuple[str, ...]
    rows: int
    note: str = ""
    flow_run: str = ""
    recorded_at: datetime | None = None


SERVING = "evergreen serving"
"""Who gives a challenger its share of requests, and takes it away again."""
AUTOMATION = "evergreen"
"""Who acts where nobody does."""
Action = Literal[
    "register", "stage", "request", "canary", "promote", "refuse", "retire", "rollback", "adopt", "restore"
]


ModelStage = Literal["", "candidate", "challenger", "champion", "refused", "retired"]


AFTER: Mapping[str, ModelStage] = {
    "register": "candidate",
    "stage": "challenger",
    "request": "challenger",
    "canary": "challenger",
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
class Situation:
    """What the policy looks at beside the fact, as of the fact's moment.

    `champion` is today's. `trained` is the moment of the newest training that made a challenger, `last` the newest
    retraining that ended with a gate's verdict, `in_flight` one that has not ended, `in_shadow` the row of a challenger that
    has not yet held up or failed (one that waits for a person does not count). `drifted` says of the last watched partitions,
    newest last, whether drift was found in each. `new_labels` counts rows that matured since the champion's window. `runs` and
    `seconds` are what retrainings have cost in the budget's period. `seen` has the newest values of every signal, for the record.
    """

    champion: Promotion | None = None
    trained: datetime | None = None
    last: Decision | None = None
    in_flight: Decision | None = None
    in_shadow: Promotion | None = None
    drifted: tuple[bool, ...] = ()
    new_labels: int = 0
    runs: int = 0
    seconds: float = 0.0
    seen: Mapping[str, Any] = field(default_factory=dict)


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
