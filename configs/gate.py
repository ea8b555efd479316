"""What `gate:` and `promotion:` in model.yaml may say: the rules, and the stages between a fit and a champion."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from configs.base import Every, Strict
from configs.kinds import HIGHER_IS_BETTER, LOWER_IS_BETTER

Gap = Literal[
    "demographic_parity_difference",
    "equalized_odds_difference",
    "equal_opportunity_difference",
    "accuracy_difference",
    "mean_error_difference",
]
"""Fairness gaps by fairlearn's names; the last two are the difference of a mean between groups."""


class Rule(Strict):
    """A rule that could not be judged, for lack of rows or blocks, fails unless it says `unjudged: pass`."""

    unjudged: Literal["fail", "pass"] = Field("fail", description="what it is when it cannot be judged")


class Gain(Rule):
    """The challenger's gain in loss over the champion, by a paired bootstrap over blocks of time."""

    test: Literal["superiority", "non_inferiority"] = Field(
        "superiority", description="the gain's lower bound must be above margin, or above minus margin"
    )
    margin: float = Field(0.0, ge=0, description="in the unit of the loss")
    confidence: float = Field(0.9, gt=0.5, lt=1, description="one-sided confidence of the bound")
    block: Every = Field("D", description="rows of one such period are taken as dependent")
    min_blocks: int = Field(10, ge=2, description="with fewer, the gain cannot be judged")
    resamples: int = Field(1000, ge=100, description="of the bootstrap")

    @model_validator(mode="after")
    def _non_inferiority_has_a_margin(self) -> Self:
        if self.test == "non_inferiority" and self.margin == 0:
            raise ValueError("non_inferiority needs a margin above 0: how much worse still is good enough")
        return self

    @property
    def least(self) -> float:
        """What the gain's lower bound must exceed."""
        return self.margin if self.test == "superiority" else -self.margin


class Segments(Rule):
    """No value of these columns may be worse off than with the champion by more than `max_loss`."""

    columns: tuple[str, ...] = Field(min_length=1, description="categorical features, or declared groups")
    min_rows: int = Field(500, ge=1, description="smaller segments are shown, not judged")
    max_loss: float = Field(ge=0, description="refused when the upper bound of the gain is below minus this")


class Fairness(Rule):
    """A fairlearn gap between the groups of a column."""

    column: str = Field(description="a categorical feature, or a declared group")
    metric: Gap = Field("equalized_odds_difference", description="by fairlearn's name")
    at_most: float = Field(gt=0, description="largest gap that passes")
    threshold: float = Field(0.5, gt=0, lt=1, description="probability from which a row counts as predicted positive")
    min_rows: int = Field(100, ge=1, description="a smaller group makes the gap impossible to judge")


class Calibration(Rule):
    """Expected calibration error; for regression, the mean error in standard deviations of the outcome."""

    at_most: float = Field(gt=0, description="largest error that passes")


class Budgets(Rule):
    """What one version may cost, measured in a fresh process."""

    one_row_ms: float = Field(250, gt=0, description="median time to predict one row")
    thousand_rows_ms: float = Field(1000, gt=0, description="median time to predict a thousand rows")
    size_mb: float = Field(100, gt=0, description="size of the version's files")


class Refit(Rule):
    """How far the refit's predictions may be from the judged version's."""

    max_move: float = Field(
        0.1,
        gt=0,
        description="mean absolute difference on the holdout; for regression in standard deviations of the outcome",
    )


class Gate(Strict):
    """What a challenger must show on the holdout. Better than the prior and load-and-query are always asked."""

    floor: Mapping[str, float] = Field(min_length=1, description="by metric: losses may not be above, scores not below")
    min_rows: int = Field(100, ge=2, description="with fewer labelled rows in the holdout nothing can be judged")
    gain: Gain = Gain()
    segments: Segments | None = None
    fairness: tuple[Fairness, ...] = ()
    calibration: Calibration | None = None
    budgets: Budgets = Budgets()
    refit: Refit = Refit()

    @field_validator("floor")
    @classmethod
    def _metrics_have_a_direction(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        unknown = sorted(set(value) - {*HIGHER_IS_BETTER, *LOWER_IS_BETTER})
        if unknown:
            raise ValueError(f"no metric with a better and a worse: {', '.join(unknown)}")
        return value


class Shadow(Strict):
    """How long a challenger scores beside the champion before it may replace it."""

    partitions: int = Field(0, ge=0, description="matured partitions it must hold up on; 0 promotes at once")
    margin: float = Field(0.0, ge=0, description="it holds up when the gain's lower bound on them is above minus this")


class Canary(Strict):
    """A share of the requests that the challenger answers instead of the champion. Broken budgets end it, and refuse the version."""

    share: float = Field(gt=0, le=0.5, description="of the keys, chosen by a stable hash: a key always gets the same")
    max_error_share: float = Field(
        0.01, ge=0, lt=1, description="rows that it may fail to answer; the champion does then"
    )
    p99_ms: float = Field(100, gt=0, description="99th percentile of the time that one request's rows take it")
    min_requests: int = Field(200, ge=1, description="requests before its budgets are judged")


class Promoting(Strict):
    """From challenger to champion."""

    shadow: Shadow = Shadow()
    canary: Canary | None = Field(None, description="a share of requests for the challenger; without it none")
    approval: bool = Field(False, description="a person must run `promote` for each version")

    @model_validator(mode="after")
    def _a_canary_has_its_time(self) -> Self:
        if self.canary and not (self.shadow.partitions or self.approval):
            raise ValueError(
                "canary: a challenger is promoted at once here, so none ever has a share; set shadow.partitions or approval"
            )
        return self
