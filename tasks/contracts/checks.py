"""What the checks of a partition found: validation's findings and drift's scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


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
    """One signal of one column: its distance from the reference, and what it was held against.

    `method` is Evidently's name of the statistic, or `missing`, `new categories`, `outside range`. `score`, `threshold` and
    `effect` are in its unit; `threshold` is the larger of the effect size that matters and of what chance
    does, None where that is not known or the signal does not count (`note` says why). `p_value` is corrected for
    all signals of the check. `importance` is the feature's share of what the champion knows.
    """

    column: str
    method: str
    score: float | None
    threshold: float | None
    drifted: bool
    effect: float
    p_value: float | None = None
    importance: float | None = None
    reference: str = ""
    note: str = ""


@dataclass(frozen=True)
class Drift:
    """The one verdict on a partition: `detected` when columns drifted, and their share reaches `threshold`.

    `columns` has what matters most first. `note` says what could not be judged; `differs` where the
    page, which shows a sample, says otherwise than this.
    """

    columns: tuple[ColumnDrift, ...]
    share: float
    threshold: float
    detected: bool
    rows: int
    alpha: float
    blocks: int = 0
    references: Mapping[str, str] = field(default_factory=dict)
    """What each group of columns was compared with, in words."""
    note: str = ""
    differs: tuple[str, ...] = ()
    report: str = ""
    """Path of the HTML page, relative to the repository's root or absolute."""
    snapshot: str = ""
    """Id of the run in the Evidently workspace."""
    project: str = ""
    """Id of the Evidently project."""
