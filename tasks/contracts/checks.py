"""Results of the checks of a partition: validation findings and drift scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The result of one expectation.

    Attributes:
        rows: Number of rows that violate the expectation.
        share: The same as a share of all rows, 0 to 1.
        observed: The value that was observed, as text.
        broke: The error if the check itself could not run, otherwise empty.
    """

    expectation: str
    column: str
    severity: Literal["critical", "warning", "info"]
    passed: bool
    rows: int = 0
    share: float = 0.0
    observed: str = ""
    broke: str = ""

    @property
    def message(self) -> str:
        """The failure in one sentence, such as `weight: column_values_to_be_between could not be checked (no such column)`."""
        what = f"{self.expectation.removeprefix('expect_')} " + ("could not be checked" if self.broke else "failed")
        return f"{self.column + ': ' if self.column else ''}{what} ({self.broke or self.observed})"


@dataclass(frozen=True)
class Validation:
    """All findings of one partition. `bad` maps the positions of quarantined rows (0-based) to the reasons."""

    findings: tuple[Finding, ...]
    bad: Mapping[int, tuple[str, ...]]

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The findings that block the partition: failed critical expectations, and checks that could not run."""
        return tuple(f for f in self.findings if not f.passed and (f.severity == "critical" or f.broke))


@dataclass(frozen=True)
class ColumnDrift:
    """One drift statistic of one column against its reference.

    Attributes:
        column: The column, or `(all features)` for the domain classifier.
        method: Evidently's name of the statistic, or `missing`, `new categories`, `outside range`, `domain classifier`.
        score: The value of the statistic.
        threshold: The score above which the column has drifted, in the unit of `score`: the larger of `effect` and of the
            critical value of the permutation test. None if it is unknown or if the signal is not tested. `note` has the reason.
        effect: The smallest effect size that matters, in the unit of `score`.
        p_value: Corrected for multiple testing over all signals of the check.
        importance: The feature's share of the champion's feature importances, 0 to 1.
        reference: Description of the reference rows.
        loss_change: How much this column's shift alone changes the loss on the champion's holdout. Only if it drifted, and is known.
        loss_error: Its standard error.
        loss_note: Why it is unknown.
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
    loss_change: float | None = None
    loss_error: float | None = None
    loss_note: str = ""


@dataclass(frozen=True)
class Drift:
    """The drift verdict for a partition.

    Attributes:
        columns: All signals. Drifted ones come first, those first that change the loss most.
        share: Share of the columns that drifted, 0 to 1.
        threshold: The share from which on drift is detected.
        detected: True if at least one column drifted and `share` reaches `threshold`.
        rows: Rows of the partition.
        alpha: Significance level of the permutation test.
        blocks: Blocks of time in the partition.
        references: Description of the reference of each group of columns.
        note: What could not be tested, and why.
        differs: Columns whose verdict differs on the HTML page, which is computed from a sample.
        report: Path of the HTML page, absolute or relative to the repository's root.
        snapshot: Id of the run in the Evidently workspace.
        project: Id of the Evidently project.
        holdout_loss: Mean loss on the champion's labelled holdout, to which `loss_change` refers. None if nothing drifted or it is unknown.
    """

    columns: tuple[ColumnDrift, ...]
    share: float
    threshold: float
    detected: bool
    rows: int
    alpha: float
    blocks: int = 0
    references: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    differs: tuple[str, ...] = ()
    report: str = ""
    snapshot: str = ""
    project: str = ""
    holdout_loss: float | None = None
