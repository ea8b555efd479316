"""What tasks hand to each other: small frozen values, never frames. Standard library only.

Every time is an aware datetime in UTC. Every range is half-open, `[start, end)`.
"""

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
    PREDICTIONS = "predictions"
    MONITORING = "monitoring"
    SHADOW = "shadow"
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


@dataclass(frozen=True)
class Passage:
    """How one partition went through some steps: for each step made, fresh, blocked or waiting, and why."""

    partition: str
    steps: tuple[tuple[str, str, str], ...]
    newly_blocked: str = ""
    """Why this run blocked the partition; empty when it did not."""

    @property
    def made(self) -> tuple[str, ...]:
        """The steps that had something to do."""
        return tuple(verb for verb, state, _ in self.steps if state == "made")


@dataclass(frozen=True)
class Finding:
    """One expectation's outcome. `rows` counts the rows that break it; `broke` is set when the check itself failed."""

    expectation: str
    column: str
    severity: Literal["critical", "warning", "info"]
    passed: bool
    rows: int = 0
    share: float = 0.0
    observed: str = ""
    broke: str = ""

    @property
    def complaint(self) -> str:
        """A sentence such as `weight: column_values_to_be_between could not be checked (no such column)`."""
        what = f"{self.expectation.removeprefix('expect_')} " + ("could not be checked" if self.broke else "failed")
        return f"{self.column + ': ' if self.column else ''}{what} ({self.broke or self.observed})"


@dataclass(frozen=True)
class Validation:
    """What the checks of one partition found. `bad` maps row positions to the reasons they are quarantined for."""

    findings: tuple[Finding, ...]
    bad: Mapping[int, tuple[str, ...]]

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """Critical findings, and checks that could not be made: doubt blocks."""
        return tuple(f for f in self.findings if not f.passed and (f.severity == "critical" or f.broke))


@dataclass(frozen=True)
class ColumnDrift:
    """One column's distance from the reference. `method` is Evidently's name, `threshold` in its unit."""

    column: str
    method: str
    score: float
    threshold: float
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """The one verdict on a partition: `detected` when the share of drifted columns reaches `threshold`."""

    columns: tuple[ColumnDrift, ...]
    share: float
    threshold: float
    detected: bool
    sampled_rows: int
    report: str = ""
    """Path of the HTML page, relative to the repository's root or absolute."""
    snapshot: str = ""
    """Id of the run in the Evidently workspace."""
    project: str = ""
    """Id of the Evidently project."""


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


@dataclass(frozen=True)
class Window:
    """The partitions a challenger may learn from, and the newest part that it is judged on.

    Rows with time in `[start, holdout_start)` are fitted on, `[holdout_start, end)` are
    the holdout. Only labels known at or before `as_of` count.
    """

    model: str
    partitions: tuple[str, ...]
    passed_over: tuple[str, ...]
    start: datetime
    holdout_start: datetime
    end: datetime
    as_of: datetime

    @property
    def span(self) -> str:
        """First and last partition, for people."""
        return f"{self.partitions[0]} to {self.partitions[-1]}"


@dataclass(frozen=True)
class Learned:
    """The rows of one partition that a version learned from; `digest` is of their values, `path` where they lie."""

    partition: str
    rows: int
    digest: str
    path: str


@dataclass(frozen=True)
class Recipe:
    """What is fitted: a candidate of model.yaml with every parameter settled, searched ones included."""

    candidate: str
    estimator: str
    params: Mapping[str, Any]
    calibration: Literal["none", "sigmoid", "isotonic"] = "none"


BASELINE = "baseline: "
"""What the names of the trials begin with that candidates are held against."""


@dataclass(frozen=True)
class Trial:
    """One candidate or baseline on the validation splits. `loss` is the mean over their rows, lower is better."""

    name: str
    recipe: Recipe
    loss: float
    losses: tuple[float, ...]
    """The loss of each split, oldest first."""
    beats_baseline: bool = True
    note: str = ""
    tried: tuple[Mapping[str, Any], ...] = ()
    """Every trial of its search: number, params and loss."""


@dataclass(frozen=True)
class Selection:
    """What a training tried on its validation splits, the recipe it chose if any beat the baseline, and its MLflow run."""

    run_id: str
    trials: tuple[Trial, ...]
    recipe: Recipe | None


@dataclass(frozen=True)
class Interval:
    """A number with the bounds of its confidence interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Segment:
    """One value of one column on the holdout: both losses and the gain there. `gain.upper` is a one-sided bound."""

    column: str
    value: str
    rows: int
    loss: float
    champion_loss: float | None
    gain: Interval | None

    @property
    def name(self) -> str:
        return f"{self.column} = {self.value}"


@dataclass(frozen=True)
class Fairness:
    """The gap between the groups of one column, by fairlearn; `groups` has each group's rows."""

    column: str
    metric: str
    gap: float
    groups: Mapping[str, int]


@dataclass(frozen=True)
class Query:
    """What a fresh process found when it loaded a registered version and scored rows with it.

    Times are medians in milliseconds, `size` is in bytes. `problem` is empty when every answer was sound
    and the real rows got the same bytes as here.
    """

    problem: str
    one_row_ms: float
    thousand_rows_ms: float
    size: int
    load_seconds: float
    rows: int


@dataclass(frozen=True)
class Scorecard:
    """One version's metrics on one set of rows. Losses: lower is better. `intervals` where a metric has one."""

    version: str
    rows: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Challenger and champion on the same rows, `[start, end)`.

    `gain` is the champion's mean loss minus the challenger's, with the bounds of a paired
    bootstrap over blocks of time; None where there is no champion or it cannot be judged,
    and then `impossible` says why.
    """

    challenger: Scorecard
    champion: Scorecard | None
    prior: Scorecard
    gain: Interval | None
    blocks: int
    start: datetime
    end: datetime
    impossible: str = ""
    note: str = ""
    """What a reader must know of the rows, such as that the champion had seen the older ones."""
    segments: tuple[Segment, ...] = ()
    fairness: tuple[Fairness, ...] = ()
    query: Query | None = None


@dataclass(frozen=True)
class Verdict:
    """One rule of the gate: its outcome, the number, and what it was held against.

    `passed` says whether the rule lets the version through; a rule that could not be judged
    does so only where model.yaml says `unjudged: pass`.
    """

    rule: str
    outcome: Literal["passed", "failed", "could not be judged"]
    passed: bool
    value: float
    threshold: float
    note: str = ""

    def __str__(self) -> str:
        said = {"failed": "REFUSED", "passed": "passed"}.get(self.outcome, self.outcome)
        numbers = f" ({self.value:.5g} against {self.threshold:.5g})" if self.value == self.value else ""
        text = f"{self.rule}: {said}{numbers}"
        return f"{text}, {self.note}" if self.note else text


@dataclass(frozen=True)
class GateDecision:
    """The gate's answer about one version, rule by rule. `against` is the champion's version, None for a first one."""

    version: str
    against: str | None
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        return bool(self.verdicts) and all(v.passed for v in self.verdicts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The rules that refused it, with their numbers."""
        return tuple(str(v) for v in self.verdicts if not v.passed)


@dataclass(frozen=True)
class Version:
    """One registered version: what it learned from and where it is kept."""

    model: str
    version: str
    run_id: str
    digest: str
    window_start: datetime
    window_end: datetime
    as_of: datetime
    recipe: Recipe
    prior: tuple[float, ...]
    """What the prior predicts: share of positives, share of each class, or mean, among the rows it was fitted on."""
    rows: int
    judged_as: str = ""
    """The version that the gate judged, where this one is its refit on the whole window."""
    training_run: str = ""
    """The MLflow run of the whole training."""


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
