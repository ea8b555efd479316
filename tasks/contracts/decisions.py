"""The rows of the database (facts, decisions, stage changes, measured effects), and the result of a training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tasks.contracts.judging import Comparison, GateDecision, Interval
from tasks.contracts.learning import Selection, Version, Window

FactKind = Literal["drift", "decay", "estimate", "due", "person", "retry", "alias", "late", "old"]
FOR_PEOPLE: tuple[FactKind, ...] = ("alias", "late", "old")
"""Kinds of facts that a person handles. The policy decides about the others."""


@dataclass(frozen=True)
class Fact:
    """One observation about a model, as a row with an id. The Prefect event is only a notification of the row.

    The same observation always has the same id, so recording or sending it twice has no effect.

    Attributes:
        kind: `drift`: features, predictions or outcomes drifted. `decay`: the realised loss has risen. `estimate`: the estimated
            loss has risen. `due`: a training is due by time or by new labels. `person`: a person requests a retraining.
            `retry`: a retraining failed and is tried again. `alias`: the champion alias in MLflow was moved.
            `late`: a partition was not processed in time. `old`: the champion is older than model.yaml allows.
        as_of: The moment as of which the policy decides.
        payload: Further values, see docs/events.md.
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
    """The policy's decision about a fact, and the outcome of the retraining.

    Attributes:
        rule: The rule that decided.
        outcome: Empty while the retraining runs, or if the action is `decline`.
        detail: Description of the outcome.
        version: The version that the retraining produced.
        signals: The values that the policy used.
        seconds: Cost of the retraining in seconds.
        gate: The verdicts of the gate, one line for each rule.
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
    """The measured effect of a promotion: a paired comparison of champion and previous champion on the same matured rows.

    Attributes:
        sequence: The promotion's sequence in the ledger.
        gain: Mean loss of the previous champion minus that of the champion, with one-sided confidence bounds. None if no
            partition matured before the next promotion.
        partitions: The partitions that were compared.
        rows: Number of labelled rows that were compared.
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
"""Author of the ledger rows that the scoring server writes: a challenger gets a share of requests, or is refused."""
AUTOMATION = "evergreen"
"""Author of the ledger rows that flows write without a person."""
Action = Literal[
    "register", "stage", "request", "propose", "canary", "promote", "refuse", "retire", "rollback", "adopt", "restore"
]
ModelStage = Literal["", "candidate", "challenger", "champion", "refused", "retired"]


STAGE_AFTER: Mapping[str, ModelStage] = {
    "register": "candidate",
    "stage": "challenger",
    "request": "challenger",
    "propose": "",
    "canary": "challenger",
    "promote": "champion",
    "adopt": "champion",
    "rollback": "champion",
    "restore": "champion",
    "refuse": "refused",
    "retire": "retired",
}
"""The model stage after each action. `propose`, a person's wish to promote a version, does not change it."""


@dataclass(frozen=True)
class Promotion:
    """One row of the ledger: a stage change of a version, and the reason.

    A row that makes a version champion applies to partitions whose as-of is later than the row's.

    Attributes:
        sequence: Number of the row within the model, from 1.
        previous: Version of the champion that the decision was made against. The ledger refuses a promotion if this version
            is no longer champion.
        window_end: End of the version's training window, exclusive.
        evidence: What the decision is based on, such as the gate's verdicts and the model's digest.
        against: Sequence of the row that made `previous` champion, 0 without a champion.
        assurance: How far the name in `by` was verified. `automation`: a flow. `asserted`: a name that somebody typed.
            `authenticated`: a name from a Prefect server with authentication.
        previous_hash: `hash` of the row before, empty for the first.
        hash: SHA-256 of all other fields.
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
    from_stage: ModelStage = ""
    to_stage: ModelStage = ""
    recorded_at: datetime | None = None
    previous_hash: str = ""
    hash: str = ""


@dataclass(frozen=True)
class ExpectedGain:
    """What a retraining is expected to gain now, in units of the loss over one partition, see `tasks/lifecycle/expected_gain.py`.

    Attributes:
        value: The expected gain; a retraining is due when it reaches the cost.
        lower, upper: 95 % interval of the expected gain.
        cost: `retraining.cost`.
        rise: Expected increase of the champion's loss for each partition of age.
        partitions: Complete partitions since the last training.
        measured: Number of partitions on which staleness was measured.
        interval: Partitions after which a retraining is expected to be due; None if the loss is not expected to rise.
    """

    value: float
    lower: float
    upper: float
    cost: float
    rise: float
    partitions: int
    measured: int
    interval: float | None


@dataclass(frozen=True)
class PolicyInputs:
    """The state of a model that the policy uses beside the fact, as of the fact's moment.

    Attributes:
        champion: The row that made the current champion.
        trained_at: As-of of the newest training that produced a challenger.
        last_judged: The newest retraining that ended with a verdict of the gate.
        in_flight: A retraining that has not ended.
        in_shadow: The row of a challenger whose shadow test has not ended. None if the challenger waits for a person's approval.
        drifted: Whether drift was detected in each of the last monitored partitions, newest last.
        new_labels: Rows after the champion's training window whose labels have matured.
        spent: As-of and seconds of each retraining within the budget's period.
        gain: What a retraining is expected to gain; None if model.yaml does not ask for it, or has no cost.
        latest: The newest value of every signal, recorded with the decision.
    """

    champion: Promotion | None = None
    trained_at: datetime | None = None
    last_judged: Decision | None = None
    in_flight: Decision | None = None
    in_shadow: Promotion | None = None
    drifted: tuple[bool, ...] = ()
    new_labels: int = 0
    spent: tuple[tuple[datetime, float], ...] = ()
    gain: ExpectedGain | None = None
    latest: Mapping[str, Any] = field(default_factory=dict)

    def spent_since(self, moment: datetime) -> list[float]:
        """Return the seconds of each retraining after a moment."""
        return [seconds for as_of, seconds in self.spent if as_of > moment]


@dataclass(frozen=True)
class Training:
    """The result of a training.

    If nothing beats the prior, nothing is fitted: `challenger` and `comparison` are None and the decision is a refusal.

    Attributes:
        final: The version that was staged: the refit on the whole window, or the challenger itself without a refit.
        row: The last ledger row about it.
        refused: The gate's decision on a change that was refused, if the champion's recipe was judged in its place.
    """

    window: Window
    selection: Selection
    decision: GateDecision
    challenger: Version | None = None
    comparison: Comparison | None = None
    final: Version | None = None
    row: Promotion | None = None
    refused: GateDecision | None = None

    @property
    def version(self) -> str:
        """Number of the resulting version, empty if there is none."""
        version = self.final or self.challenger
        return version.version if version else ""
