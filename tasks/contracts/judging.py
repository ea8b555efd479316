"""What the gate looks at and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


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
