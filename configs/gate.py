"""Schema of `gate:` and `promotion:` in model.yaml: the rules of the gate, and the way from challenger to champion."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from configs.base import Every, Strict
from configs.kinds import HIGHER_IS_BETTER, LOWER_IS_BETTER
from configs.nearest import hint

Gap = Literal[
    "demographic_parity_difference",
    "equalized_odds_difference",
    "equal_opportunity_difference",
    "accuracy_difference",
    "mean_error_difference",
]
"""Fairness metrics. The first three are fairlearn's functions, the last two differences of a mean between groups."""


class Rule(Strict):
    """A rule of the gate. If it cannot be judged (too few rows or blocks), it fails, unless `unjudged` is `pass`."""

    unjudged: Literal["fail", "pass"] = Field("fail", description="result of the rule if it could not be judged")


class Gain(Rule):
    """The gain in loss of a *change* over the champion, by a paired block bootstrap over time.

    A change is a version whose recipe differs from the champion's: SQL, features, target, estimator, parameters, search space, window,
    a calibration, or expectations that let other rows pass. Everything else is a refresh, see `gate.refresh`.
    """

    test: Literal["superiority", "non_inferiority"] = Field(
        "superiority",
        description="superiority: the gain's lower bound must be above margin; non_inferiority: above minus margin",
    )
    margin: float = Field(0.0, ge=0, description="in the unit of the loss")
    confidence: float = Field(
        0.9,
        gt=0.5,
        lt=1,
        description="one-sided confidence over all tests of the same change: an equal one passes with at most 1 minus this",
    )
    block: Every = Field("D", description="length of a bootstrap block: rows of one block count as dependent")
    min_blocks: int = Field(10, ge=2, description="with fewer blocks the gain cannot be judged")
    resamples: int = Field(1000, ge=100, description="number of bootstrap resamples")

    @model_validator(mode="after")
    def _non_inferiority_has_a_margin(self) -> Self:
        if self.test == "non_inferiority" and self.margin == 0:
            raise ValueError("non_inferiority needs a margin above 0: the accepted loss of performance")
        return self

    @property
    def min_gain(self) -> float:
        """Value that the gain's lower bound must exceed."""
        return self.margin if self.test == "superiority" else -self.margin


class Refresh(Rule):
    """A *refresh*: the champion's recipe, fitted on newer rows. It is refused only if it is surely worse."""

    margin: float = Field(
        0.0, ge=0, description="refused when the gain's upper bound is below minus this, in the unit of the loss"
    )
    confidence: float = Field(0.9, gt=0.5, lt=1, description="one-sided confidence of the bound, in each test")


class Segments(Rule):
    """Limit on the loss of performance in any segment (value of these columns), compared with the champion."""

    columns: tuple[str, ...] = Field(min_length=1, description="categorical features, or declared groups")
    min_rows: int = Field(500, ge=1, description="smaller segments are shown but not judged")
    max_loss: float = Field(ge=0, description="refused when the upper bound of the gain is below minus this")


class Fairness(Rule):
    """Limit on a fairness metric between the groups of a column."""

    column: str = Field(description="a categorical feature, or a declared group")
    metric: Gap = Field(
        "equalized_odds_difference",
        description="the first three: fairlearn's functions; accuracy_difference and mean_error_difference: "
        "largest difference in accuracy or in mean absolute error between groups",
    )
    at_most: float = Field(gt=0, description="largest difference that passes")
    threshold: float = Field(0.5, gt=0, lt=1, description="a row with at least this probability is predicted positive")
    min_rows: int = Field(100, ge=1, description="with a smaller group the metric cannot be judged")


class Calibration(Rule):
    """Limit on the expected calibration error. For regression: the mean error in standard deviations of the outcome."""

    at_most: float = Field(gt=0, description="largest error that passes")


class Budgets(Rule):
    """Limits on time and size of one version, measured in a new process."""

    one_row_ms: float = Field(250, gt=0, description="median time to predict one row")
    thousand_rows_ms: float = Field(1000, gt=0, description="median time to predict a thousand rows")
    size_mb: float = Field(100, gt=0, description="size of the version's files")


class Refit(Rule):
    """Limit on the difference between the predictions of the refitted and the judged model."""

    max_move: float = Field(
        0.1,
        gt=0,
        description="mean absolute difference on the holdout; for regression in standard deviations of the outcome. "
        "Twice what the champion's own refit moved is always allowed",
    )


class Gate(Strict):
    """Rules that a candidate version must pass on the holdout. Two more always apply: better than the prior, and it loads and predicts.

    Where the champion breaks a limit on the same rows (floor, prior, calibration, fairness), a version is refused only if it is worse
    than the champion beyond chance.
    """

    floor: Mapping[str, float] = Field(
        min_length=1,
        description="by metric: highest loss or lowest score that passes; docs/names.md lists the metrics",
        json_schema_extra={"propertyNames": {"enum": [*LOWER_IS_BETTER, *HIGHER_IS_BETTER]}},
    )
    min_rows: int = Field(100, ge=2, description="with fewer labelled rows in the holdout no rule can be judged")
    gain: Gain = Gain()
    refresh: Refresh = Refresh()
    segments: Segments | None = None
    fairness: tuple[Fairness, ...] = ()
    calibration: Calibration | None = None
    budgets: Budgets = Budgets()
    refit: Refit = Refit()

    @field_validator("floor")
    @classmethod
    def _metrics_have_a_direction(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        known = (*LOWER_IS_BETTER, *HIGHER_IS_BETTER)
        if unknown := next((name for name in value if name not in known), None):
            raise ValueError(f"there is no metric {unknown!r} that can have a limit; {hint(unknown, known)}")
        return value


class Shadow(Strict):
    """How long a challenger scores in shadow mode before it can replace the champion."""

    partitions: int = Field(0, ge=0, description="matured partitions in shadow mode; 0: promotion at once")
    margin: float = Field(0.0, ge=0, description="the gain's lower bound on these partitions must be above minus this")


class Canary(Strict):
    """A share of the requests that the challenger answers. If it exceeds a limit, the canary ends and the version is refused."""

    share: float = Field(gt=0, le=0.5, description="share of the keys, by a stable hash: a key keeps its version")
    max_error_share: float = Field(
        0.01, ge=0, lt=1, description="limit on the share of rows that it fails to answer; the champion answers them"
    )
    p99_ms: float = Field(100, gt=0, description="limit on the 99th percentile of its time per request")
    min_requests: int = Field(200, ge=1, description="requests before the limits are evaluated")


class PromotionConfig(Strict):
    """How a challenger becomes champion."""

    shadow: Shadow = Shadow()
    canary: Canary | None = Field(None, description="a share of the requests for the challenger; off unless given")
    approval: bool = Field(False, description="true: a person approves each version with `promote`")

    @model_validator(mode="after")
    def _a_canary_has_its_time(self) -> Self:
        if self.canary and not (self.shadow.partitions or self.approval):
            raise ValueError(
                "canary: challengers are promoted at once, so a canary never runs; set shadow.partitions or approval"
            )
        return self
