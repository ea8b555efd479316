"""Schema of `model.yaml`. An unknown key is an error.

The description of a field is the documentation of its key (`python -m ops.keys`).
"""

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from configs.base import EXAMPLE, PATTERN, Name, NameOfModel, Strict
from configs.contract import Contract
from configs.expectations import ColumnKind, Expectation, impossible_values
from configs.features import Features
from configs.for_each import ForEach
from configs.gate import Gate, PromotionConfig
from configs.kinds import HIGHER_IS_BETTER, KINDS, LOWER_IS_BETTER, METRICS
from configs.monitoring import ChampionConfig, Monitoring
from configs.partitioning import HOURS, Partitioning
from configs.paths import folder_problem
from configs.publish import Output, Sink, publish_problem
from configs.replay import Replay
from configs.retention import Retention
from configs.retraining import Retraining
from configs.source import Source
from configs.target import Target
from configs.training import TrainingConfig

RESERVED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "predictions": ("prediction", "model_version", "as_of", "variant"),
    "labels": ("known_at",),
    "quarantined rows": ("reasons",),
    "served rows": ("role", "request_id", "client_id", "request_row", "served_at"),
}
"""Columns that rows of the lake have in addition to the model's own. A test compares them with the rows that are written."""
TIME_KEY = "time_as_text"
"""The key of a flat file whose `key` and `time` are the same column, such as one row a day."""


class ModelConfig(Strict):
    """The configuration of one model."""

    extends: str | None = Field(
        None,
        exclude=True,
        description="YAML file, relative to this one, whose keys hold unless this file has them too; mappings are merged, lists replaced",
    )
    for_each: ForEach | None = None
    name: NameOfModel = Field(description="name of the model and of its folder")
    description: str = Field(description="what is predicted, for which rows, and when; shown on pages")
    partition: Partitioning
    source: Source
    key: str = Field(
        description="column that identifies a row permanently, at least within its partition; in a flat file it may be `time` itself"
    )
    time: str = Field(description="column with the prediction time, a timestamp with time zone")
    target: Target
    features: Features
    expectations: tuple[Expectation, ...] = Field((), description="checks of the rows by Great Expectations")
    training: TrainingConfig
    dictionary: Mapping[str, str] = Field({}, description="meaning and unit of each column, for the data catalogue")
    groups: tuple[str, ...] = Field((), description="text columns of source.sql for segments and fairness, no features")
    personal: tuple[str, ...] = Field(
        (),
        description="columns with personal data (key, features, groups, target): outside of rows in the lake only a keyed hash of their "
        "values is written",
    )
    gate: Gate
    promotion: PromotionConfig = PromotionConfig()
    champion: ChampionConfig = ChampionConfig()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    replay: Replay = Replay()
    retention: Retention = Retention()
    contract: Contract = Contract()
    publish: Mapping[Name, Sink] = Field(
        {}, description="places outside of the lake that get outputs, by a name of your choice"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `source.sql` must return."""
        return (self.key, self.time, *self.features.all, *self.groups)

    @model_serializer(mode="wrap")
    def _omit_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `for_each` and `publish` if there is none, so that digests are those of before these keys existed."""
        content: dict[str, Any] = serialize(self)
        return {name: value for name, value in content.items() if value or name not in ("for_each", "publish")}

    @model_validator(mode="before")
    @classmethod
    def _time_may_be_the_key(cls, content: Any) -> Any:
        """Name the key of a flat file `TIME_KEY` if it is the time. A column cannot be both text and a time."""
        flat = (
            isinstance(content, Mapping)
            and isinstance(content.get("source"), Mapping)
            and content["source"].get("file")
        )
        return {**content, "key": TIME_KEY} if flat and content.get("key") == content.get("time") else content

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> Self:
        names = [self.key, self.time, self.target.column, *self.groups, *self.features.all]
        lower = [name.lower() for name in names]
        if duplicates := sorted({name for name in names if lower.count(name.lower()) > 1}):
            hint = (
                "; return the time a second time in source.sql, as text, for the key" if self.key == self.time else ""
            )
            raise ValueError(
                f"{', '.join(duplicates)}: key, time, target, groups and features must be different columns, also in lower case{hint}"
            )
        return self

    @model_validator(mode="after")
    def _expectations_fit_the_columns(self) -> Self:
        kinds: dict[str, ColumnKind] = dict.fromkeys((self.key, *self.features.categorical, *self.groups), "text")
        kinds |= dict.fromkeys(self.features.numeric, "number")
        kinds[self.time] = "time"
        for expectation, kwargs in ((e, kwargs) for e in self.expectations for kwargs in e.checks()):
            listed = kwargs.get("column_list")
            used = [kwargs[k] for k in ("column", "column_A", "column_B") if k in kwargs]
            used += listed if isinstance(listed, list | tuple) else []
            if unknown := [str(name) for name in used if name not in kinds]:
                raise ValueError(
                    f"expectations: {expectation.type} uses {', '.join(unknown)}, which is not a column of the model"
                )
            for problem in impossible_values(expectation.type, kwargs, kinds):
                raise ValueError(f"expectations: {expectation.type}: {problem}")
        return self

    @model_validator(mode="after")
    def _columns_are_not_reserved(self) -> Self:
        reserved = {name for names in RESERVED_COLUMNS.values() for name in names}
        reserved |= {f"p_{name}".lower() for name in self.target.classes}
        reserved |= set() if self.source.file else {TIME_KEY}
        if taken := sorted(name for name in {*self.columns, self.target.column} if name.lower() in reserved):
            raise ValueError(
                f"{', '.join(taken)}: reserved for {', '.join(RESERVED_COLUMNS)}; use another column name in source.sql, or in the file"
            )
        return self

    @model_validator(mode="after")
    def _for_each_has_a_column_of_its_own(self) -> Self:
        if self.for_each and self.for_each.column in (self.key, self.time, self.target.column):
            raise ValueError(
                f"for_each.column: {self.for_each.column} is the key, the time or the target; use another column"
            )
        if self.for_each and self.for_each.column in self.personal:
            raise ValueError(f"personal: {self.for_each.column} is in the names of the models, so it cannot be hidden")
        return self

    @model_validator(mode="after")
    def _described_columns_exist(self) -> Self:
        if unknown := sorted(set(self.dictionary) - {*self.columns, self.target.column}):
            raise ValueError(f"dictionary: {', '.join(unknown)} is not a column of the model")
        return self

    @model_validator(mode="after")
    def _personal_columns_exist(self) -> Self:
        if unknown := sorted(set(self.personal) - {*self.columns, self.target.column}):
            raise ValueError(f"personal: {', '.join(unknown)} is not a column of the model")
        if self.time in self.personal or self.key == TIME_KEY in self.personal:
            raise ValueError(f"personal: {self.time} decides which partition a row is in, so it cannot be hidden")
        if problem := folder_problem(self.personal, (table.path for table in self.source.views.values())):
            raise ValueError(f"personal: {problem}")
        if self.target.classes and self.target.column in self.personal:
            raise ValueError(
                f"personal: the classes of {self.target.column} are in model.yaml, so they cannot be hidden"
            )
        return self

    @model_validator(mode="after")
    def _monitored_columns_are_features(self) -> Self:
        if unknown := sorted(set(self.monitoring.seasonal) - set(self.features.all)):
            raise ValueError(f"monitoring.seasonal: {', '.join(unknown)} is not a feature of the model")
        if unknown := sorted(set(self.monitoring.ignore) - {*self.features.all, "prediction"}):
            raise ValueError(
                f"monitoring.ignore: {', '.join(unknown)} is neither a feature of the model nor `prediction`"
            )
        return self

    @model_validator(mode="after")
    def _served_from_is_a_partition(self) -> Self:
        first, every = self.source.served_from, self.partition.every
        if first is not None and not re.fullmatch(PATTERN[every], first):
            raise ValueError(
                f"source.served_from: {first!r} is not a partition; this model's partitions have names such as {EXAMPLE[every]!r}"
            )
        return self

    @model_validator(mode="after")
    def _sinks_fit_the_columns(self) -> Self:
        sent: dict[Output, tuple[str, ...]] = {"predictions": (self.key, self.time), "quarantine": self.columns}
        if problem := publish_problem(self.publish, sent, is_one_of_many="-" in self.name):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _series_are_columns(self) -> Self:
        if unknown := sorted(set(self.replay.series or ()) - set(self.columns)):
            raise ValueError(f"replay.series: {', '.join(unknown)} is not a column of the model")
        return self

    @model_validator(mode="after")
    def _shadow_is_long_enough(self) -> Self:
        count, least = self.promotion.shadow.partitions, self.gate.gain.min_blocks
        most = count * max(1, HOURS[self.partition.every] // HOURS[self.gate.gain.block])
        if 0 < most < least:
            raise ValueError(
                f"promotion.shadow: {count} partitions hold at most {most} blocks of gate.gain.block, but gate.gain.min_blocks is {least}: "
                f"no challenger could be promoted; use more partitions, fewer blocks or shorter blocks"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit_the_target(self) -> Self:
        kind = self.target.kind
        for name, candidate in self.training.candidates.items():
            if kind not in KINDS[candidate.estimator]:
                able = ", ".join(estimator for estimator, kinds in KINDS.items() if kind in kinds)
                raise ValueError(
                    f"training.candidates.{name}: {candidate.estimator} is not for {kind} targets; {able} are"
                )
        limited = [name for name in METRICS[kind] if name in (*LOWER_IS_BETTER, *HIGHER_IS_BETTER)]
        if unknown := sorted(set(self.gate.floor) - set(limited)):
            raise ValueError(f"gate.floor: {kind} targets have no {', '.join(unknown)}; they have {', '.join(limited)}")
        allowed = (*self.features.categorical, *self.groups)
        columns = [("segments", c) for c in (self.gate.segments.columns if self.gate.segments else ())]
        for rule, column in columns + [("fairness", f.column) for f in self.gate.fairness]:
            if column not in allowed:
                raise ValueError(f"gate.{rule}: {column!r} is neither a categorical feature nor in `groups`")
        for gap in self.gate.fairness:
            if (kind == "regression") != (gap.metric == "mean_error_difference"):
                raise ValueError(f"gate.fairness: {gap.metric} is not for {kind} targets")
            if kind == "multiclass" and gap.metric != "accuracy_difference":
                raise ValueError("gate.fairness: multiclass targets have accuracy_difference only")
        return self
