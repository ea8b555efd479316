"""What the checks of a partition found: validation's findings and drift's scores."""

from collections.abc import Mapping
from dataclasses import dataclass
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
