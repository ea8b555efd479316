"""What a model's `model.yaml` may say. Frozen, and a key that is not here is an error.

A field's description is the documentation of its key.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from configs.base import EXAMPLE, PATTERN, Duration, Every, Name, Strict
from configs.features import Features
from configs.gate import Gate, Promoting
from configs.kinds import KINDS, LOSSES, METRICS, Kind, Loss
from configs.monitoring import Monitoring
from configs.replay import Replay
from configs.retraining import Retraining
from configs.source import Source
from configs.training import TrainingConfig

HOURS: Mapping[Every, int] = {"M": 31 * 24, "W": 7 * 24, "D": 24, "H": 1}
"""The most hours that a period has, a change of clocks aside."""
OURS = ("prediction", "model_version", "as_of", "role", "request_id", "client_id", "request_row", "served_at")
"""Columns of predictions and of what serving has answered, which stand beside a row's own."""
Severity = Literal["critical", "warning", "info"]


class Partitioning(Strict):
    """How time is cut into partitions."""

    every: Every = Field(description="M, W (from Monday), D or H")
    timezone: str = Field("UTC", description="IANA name of the zone whose midnights are the borders")

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is no IANA time zone, such as Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _hours_are_utc(self) -> Self:
        if self.every == "H" and self.timezone != "UTC":
            raise ValueError("hourly partitions are in UTC: a local hour can happen twice")
        return self


class Target(Strict):
    """What is predicted, and how long after a row's time its outcome is known."""

    column: Name = Field(description="name of the outcome")
    kind: Kind = Field("binary", description="binary (0 or 1), multiclass (text) or regression (a number)")
    classes: tuple[str, ...] = Field((), description="multiclass: every class, in the order of its probabilities")
    loss: Loss | None = Field(
        None, description="what models are judged by; regression: squared_error or absolute_error"
    )
    delay: Duration = Field(description="label delay: from a row's time to the moment its outcome is known")
    max_bad_share: float = Field(
        0.01, ge=0, le=1, description="labels that may be faulty before the partition's are blocked"
    )

    @property
    def judged_by(self) -> Loss:
        """The loss that every comparison is made in."""
        return self.loss or LOSSES[self.kind][0]

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "multiclass" and len(set(self.classes)) < 3:
            raise ValueError("a multiclass target names its classes, at least three different ones")
        if self.kind != "multiclass" and self.classes:
            raise ValueError(f"`classes` is for multiclass targets, this one is {self.kind}")
        if self.judged_by not in LOSSES[self.kind]:
            raise ValueError(f"a {self.kind} target is judged by {' or '.join(LOSSES[self.kind])}, not {self.loss}")
        return self


class Expectation(Strict):
    """One Great Expectations check.

    Rows that break a critical or warning check are quarantined. A critical check that fails as a
    whole (more rows than `mostly` tolerates) blocks the partition.
    """

    type: str = Field(pattern=r"^expect_[a-z_]+$", description="Great Expectations' name in snake case")
    severity: Severity = Field(
        "critical", description="critical blocks the partition, warning quarantines rows, info only tells"
    )
    columns: tuple[str, ...] = Field((), description="makes one check for each column; or name `column` in kwargs")
    kwargs: Mapping[str, Any] = Field(default_factory=dict, description="arguments, as Great Expectations names them")

    def each(self) -> Iterator[dict[str, Any]]:
        """The arguments of each check that this entry stands for."""
        if not self.columns:
            yield dict(self.kwargs)
        for column in self.columns:
            yield {"column": column, **self.kwargs}


class ModelConfig(Strict):
    """The whole of one model."""

    name: Name = Field(description="the folder's name")
    description: str = Field(description="what is predicted, of what, and when; shown to people")
    partition: Partitioning
    source: Source
    key: str = Field(description="column that names a row for ever")
    time: str = Field(description="column with the moment of the prediction, a timestamp with time zone")
    target: Target
    features: Features
    expectations: tuple[Expectation, ...] = Field(
        (), description="what valid rows look like, as Great Expectations says it"
    )
    training: TrainingConfig
    dictionary: Mapping[str, str] = Field(
        {}, description="what a column means, with its unit; shown in the data catalogue"
    )
    groups: tuple[str, ...] = Field(
        (), description="columns of source.sql for segments and fairness that the model never sees; text"
    )
    gate: Gate
    promotion: Promoting = Promoting()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    replay: Replay = Replay()

    @property
    def columns(self) -> tuple[str, ...]:
        """What `source.sql` must yield."""
        return (self.key, self.time, *self.features.all, *self.groups)

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> Self:
        roles = [self.key, self.time, self.target.column, *self.groups]
        double = sorted({n for n in roles if roles.count(n) > 1 or n in self.features.all})
        if double:
            raise ValueError(f"{', '.join(double)}: key, time, target, groups and features must be different columns")
        for expectation in self.expectations:
            named = {
                v for kwargs in expectation.each() for k, v in kwargs.items() if k in ("column", "column_A", "column_B")
            }
            unknown = sorted(named - set(self.columns))
            if unknown:
                raise ValueError(
                    f"expectations: {expectation.type} names {', '.join(unknown)}, which is no column of the model"
                )
        return self

    @model_validator(mode="after")
    def _columns_are_not_ours(self) -> Self:
        ours = {*OURS, *(f"p_{name}" for name in self.target.classes)}
        if taken := sorted(ours & {*self.columns, self.target.column}):
            raise ValueError(
                f"{', '.join(taken)}: what is said about a row stands beside it under this name; call the column otherwise in source.sql"
            )
        return self

    @model_validator(mode="after")
    def _described_columns_exist(self) -> Self:
        if strange := sorted(set(self.dictionary) - {*self.columns, self.target.column}):
            raise ValueError(f"dictionary: {', '.join(strange)} is no column of the model")
        return self

    @model_validator(mode="after")
    def _monitored_columns_are_features(self) -> Self:
        if strange := sorted(set(self.monitoring.seasonal) - set(self.features.all)):
            raise ValueError(f"monitoring.seasonal: {', '.join(strange)} is no feature of the model")
        return self

    @model_validator(mode="after")
    def _served_from_is_a_partition(self) -> Self:
        first, every = self.source.served_from, self.partition.every
        if first is not None and not re.fullmatch(PATTERN[every], first):
            raise ValueError(
                f"source.served_from: {first!r} is no partition: this model's look like {EXAMPLE[every]!r}"
            )
        return self

    @model_validator(mode="after")
    def _series_are_columns(self) -> Self:
        if strange := sorted(set(self.replay.series or ()) - set(self.columns)):
            raise ValueError(f"replay.series: {', '.join(strange)} is no column of the model")
        return self

    @model_validator(mode="after")
    def _shadow_is_long_enough(self) -> Self:
        count, least = self.promotion.shadow.partitions, self.gate.gain.min_blocks
        most = count * max(1, HOURS[self.partition.every] // HOURS[self.gate.gain.block])
        if 0 < most < least:
            raise ValueError(
                f"promotion.shadow: {count} partitions hold at most {most} blocks of gate.gain.block, but gate.gain.min_blocks is {least}: "
                f"no challenger could ever hold up; ask for more partitions, or for fewer or shorter blocks"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit_the_target(self) -> Self:
        kind = self.target.kind
        for name, candidate in self.training.candidates.items():
            if kind not in KINDS[candidate.estimator]:
                raise ValueError(f"training.candidates.{name}: {candidate.estimator} is not for {kind} targets")
        strange = sorted(set(self.gate.floor) - set(METRICS[kind]))
        if strange:
            raise ValueError(
                f"gate.floor: {kind} targets have no {', '.join(strange)}; they have {', '.join(METRICS[kind])}"
            )
        known = (*self.features.categorical, *self.groups)
        named = [("segments", c) for c in (self.gate.segments.columns if self.gate.segments else ())]
        for rule, column in named + [("fairness", f.column) for f in self.gate.fairness]:
            if column not in known:
                raise ValueError(f"gate.{rule}: {column!r} is no categorical feature and not in `groups`")
        for gap in self.gate.fairness:
            if (kind == "regression") != (gap.metric == "mean_error_difference"):
                raise ValueError(f"gate.fairness: {gap.metric} is not for {kind} targets")
            if kind == "multiclass" and gap.metric != "accuracy_difference":
                raise ValueError("gate.fairness: multiclass targets have accuracy_difference only")
        return self
