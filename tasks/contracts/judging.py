"""The input and the result of the gate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from tasks.contracts.escape import one_line


@dataclass(frozen=True)
class Interval:
    """A number with the bounds of its confidence interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Segment:
    """The rows of the holdout with one value in one column.

    Attributes:
        loss: The challenger's mean loss on these rows.
        champion_loss: The champion's mean loss on these rows, None without a champion.
        gain: Champion's minus challenger's mean loss. `gain.upper` is a one-sided bound.
    """

    column: str
    value: str
    rows: int
    loss: float
    champion_loss: float | None
    gain: Interval | None

    @property
    def name(self) -> str:
        """Such as `origin = JFK`."""
        return f"{self.column} = {one_line(self.value)}"


@dataclass(frozen=True)
class Fairness:
    """A fairness metric of fairlearn: the gap between the groups of one column. `groups` has the rows of each group."""

    column: str
    metric: str
    gap: float
    groups: Mapping[str, int]


@dataclass(frozen=True)
class Query:
    """The result of the smoke test: a new process loads a registered version and predicts with it.

    Attributes:
        problem: Empty if every prediction was valid and the predictions of real rows were identical to the byte to those
            of the training process.
        one_row_ms: Median latency of one row, milliseconds.
        thousand_rows_ms: Median latency of 1000 rows, milliseconds.
        size: Size of the model's files in bytes.
        load_seconds: Time to load the model.
        rows: Rows of each sort that were predicted.
    """

    problem: str
    one_row_ms: float
    thousand_rows_ms: float
    size: int
    load_seconds: float
    rows: int


@dataclass(frozen=True)
class Scorecard:
    """The metrics of one version on one set of rows. Losses: lower is better. `intervals` has the metrics with an interval."""

    version: str
    rows: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


Burden = Literal["refresh", "change"]
"""What a challenger must show. A refresh has the champion's recipe and is refused only if it is surely worse. A change has another one
and must be surely better, or not worse by a margin."""


@dataclass(frozen=True)
class Comparison:
    """Challenger and champion on the same rows, with times in `[start, end)`.

    Attributes:
        champion: Scorecard of the version that stands for the champion, see `reference`. None without a champion.
        prior: Scorecard of the constant prediction, see `Version.prior`.
        gain: Champion's minus challenger's mean loss, with the bounds of a paired bootstrap over blocks of time. None if there
            is no champion or if the gain cannot be computed.
        blocks: Number of blocks of time.
        impossible: Why `gain` is None, otherwise empty.
        note: A restriction of the rows, for example that the champion was trained on the older ones.
        burden: What the challenger must show.
        differences: What differs between the recipes of challenger and champion, such as `features`.
        reference: Which version stands for the champion, in words.
        change: Identifies a change among the tests of other changes. Empty for a refresh.
        gains: Block of time, rows and summed gain of each block.
        tests: Number of tests of the same change since the last one was promoted, this one included.
        excess: By rule that challenger and champion both break: how much more the challenger breaks it, with one-sided bounds.
        anchor: Another version that the challenger must not be surely worse than. For a refresh the last champion that was judged as
            a change, if that is another one. For a change of both recipe and rows the champion as it was judged. Else empty.
        anchor_gain: The challenger's gain over the anchor, None if it cannot be measured.
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
    segments: tuple[Segment, ...] = ()
    fairness: tuple[Fairness, ...] = ()
    query: Query | None = None
    burden: Burden = "change"
    differences: tuple[str, ...] = ()
    reference: str = ""
    change: str = ""
    gains: tuple[tuple[int, float, float], ...] = ()
    tests: int = 1
    excess: Mapping[str, Interval] = field(default_factory=dict)
    anchor: str = ""
    anchor_gain: Interval | None = None


@dataclass(frozen=True)
class Verdict:
    """The verdict of one rule of the gate.

    `passed` is also true for a rule that could not be judged if model.yaml has `unjudged: pass` for it.
    """

    rule: str
    outcome: Literal["passed", "failed", "could not be judged"]
    passed: bool
    value: float
    threshold: float
    note: str = ""

    def __str__(self) -> str:
        outcome = {"failed": "REFUSED", "passed": "passed"}.get(self.outcome, self.outcome)
        numbers = f" ({self.value:.5g} against {self.threshold:.5g})" if self.value == self.value else ""
        text = f"{self.rule}: {outcome}{numbers}"
        return f"{text}, {self.note}" if self.note else text


@dataclass(frozen=True)
class GateDecision:
    """The gate's decision about one version. `against` is the champion's version, None if there is no champion."""

    version: str
    against: str | None
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every rule passed. False without any verdict."""
        return bool(self.verdicts) and all(v.passed for v in self.verdicts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The verdicts that did not pass, as text."""
        return tuple(str(v) for v in self.verdicts if not v.passed)
