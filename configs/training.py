"""Schema of `training:` in model.yaml: the window, the candidates, their search, and the selection."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from configs.base import Duration, Name, Strict
from configs.kinds import PARAMETERS, Estimator
from configs.nearest import hint

Value = bool | int | float | str | None


class TrainingWindow(Strict):
    """The training window."""

    partitions: int | None = Field(None, ge=1, description="number of newest partitions; by default all")
    min_partitions: int = Field(1, ge=1, description="a window with fewer partitions is an error")
    min_rows: int = Field(1000, ge=1, description="fewer labelled rows for fitting are an error")
    max_rows: int | None = Field(
        None,
        ge=100,
        description="if there are more rows, a sample of this size is used, drawn with the seed; by default all rows",
    )
    holdout: Duration = Field(
        description="newest labelled part of the window: the gate judges the candidate version on it, "
        "and it is used for fitting only afterwards"
    )

    @model_validator(mode="after")
    def _a_sample_is_enough(self) -> Self:
        if self.max_rows is not None and self.max_rows < self.min_rows:
            raise ValueError(f"max_rows ({self.max_rows}) must not be below min_rows ({self.min_rows})")
        return self


class Range(Strict):
    """Numbers from `low` to `high`, both included. Integers if both are integers."""

    low: int | float = Field(description="included")
    high: int | float = Field(description="included")
    log: bool = Field(False, description="true: sample on a logarithmic scale")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 with `log: true`, not {self.low:g}")
        return self


class Search(Strict):
    """A seeded hyperparameter search with Optuna (TPE). The parameters in `params` are the first trial."""

    trials: int = Field(20, ge=1, le=1000, description="number of trials")
    time_limit: Duration | None = Field(
        None,
        description="a search that takes longer fails; it is not cut short, since the model would then depend on the machine's speed",
    )
    space: Mapping[str, Range | tuple[Value, ...]] = Field(
        min_length=1, description="by parameter: a range {low, high, log} or a list of choices"
    )

    @model_validator(mode="after")
    def _has_choices(self) -> Self:
        for name, space in self.space.items():
            if isinstance(space, tuple) and not space:
                raise ValueError(f"space: {name}: the list of choices is empty")
        return self


def _parameters_by_estimator(schema: dict[str, Any]) -> None:
    """Add the names of each estimator's parameters to the JSON Schema of a candidate."""
    schema["allOf"] = [
        {
            "if": {"properties": {"estimator": {"const": name}}, "required": ["estimator"]},
            "then": {
                "properties": {
                    "params": {"properties": dict.fromkeys(own, True), "additionalProperties": False},
                    "search": {"properties": {"space": {"propertyNames": {"enum": [*own]}}}},
                }
            },
        }
        for name, own in PARAMETERS.items()
    ]


class Candidate(Strict):
    """An estimator and its parameters. The estimator determines the preprocessing."""

    model_config = ConfigDict(json_schema_extra=_parameters_by_estimator)

    estimator: Estimator = Field(description="the estimator, which also determines the preprocessing")
    params: Mapping[str, Value] = Field(default_factory=dict, description="parameters by their name in the estimator")
    search: Search | None = Field(None, description="hyperparameter search; off unless given")

    @model_validator(mode="after")
    def _parameters_exist(self) -> Self:
        _require_declared(self.estimator, "params", self.params)
        _require_declared(self.estimator, "search.space", self.search.space if self.search else ())
        return self


def _require_declared(estimator: Estimator, where: str, names: Iterable[str]) -> None:
    """Raise ValueError for a parameter that the estimator does not have, or that cannot be set here."""
    for name in names:
        if name not in PARAMETERS[estimator]:
            known = hint(name, PARAMETERS[estimator], "it takes")
            raise ValueError(f"{where}: {estimator} has no parameter {name!r} here; {known}")


class TrainingConfig(Strict):
    """How a candidate version is trained."""

    window: TrainingWindow
    candidates: Mapping[Name, Candidate] = Field(
        min_length=1,
        description="estimators that a training tries, by name; the best one on the validation splits is fitted, "
        "and the gate judges it",
    )
    splits: int = Field(
        3,
        ge=1,
        le=20,
        description="number of validation splits before the holdout, each of its length; each is predicted by a fit on the rows before it",
    )
    baseline: Literal["prior", "linear"] = Field(
        "linear",
        description="prior: a candidate must beat the best constant prediction on the splits; linear: a linear model also competes, "
        "and is fitted where it is the best candidate",
    )
    calibration: Literal["none", "sigmoid", "isotonic"] = Field(
        "sigmoid",
        description="calibration of probabilities; used if it reduces the loss on the newer half of the splits",
    )
    refit: Literal["window", "none"] = Field(
        "window",
        description="window: fit a version that passed the gate again, on the whole window; none: keep the fit without the holdout",
    )
    seed: int = Field(0, ge=0, description="seed of searches, bootstraps and samples")
