"""What `training:` in model.yaml may say: the window, the candidates, their search, and how they are chosen."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from configs.base import Duration, Name, Strict
from configs.kinds import PARAMETERS, Estimator

Value = bool | int | float | str | None


class TrainingWindow(Strict):
    """What a training may learn from."""

    partitions: int | None = Field(None, ge=1, description="newest partitions to learn from; without it all")
    min_partitions: int = Field(1, ge=1, description="a shorter window is an error")
    min_rows: int = Field(1000, ge=1, description="fewer labelled rows to fit on are an error")
    max_rows: int | None = Field(
        None, ge=100, description="of more rows a sample of so many is fitted on, drawn by the seed; without it all are"
    )
    holdout: Duration = Field(
        description="the newest labelled part that judges the challenger and is fitted on only after"
    )

    @model_validator(mode="after")
    def _a_sample_is_enough(self) -> Self:
        if self.max_rows is not None and self.max_rows < self.min_rows:
            raise ValueError(f"a sample of max_rows ({self.max_rows}) would have fewer than min_rows ({self.min_rows})")
        return self


class Range(Strict):
    """Numbers from `low` to `high`, both included; whole numbers when both are written as such."""

    low: int | float = Field(description="included")
    high: int | float = Field(description="included")
    log: bool = Field(False, description="draw evenly by order of magnitude")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"a range with `log: true` must begin above 0, not at {self.low:g}")
        return self


class Search(Strict):
    """A seeded search by Optuna (TPE) over some of a candidate's parameters; the declared ones are tried first."""

    trials: int = Field(20, ge=1, le=1000, description="how many are tried; the same number every time")
    time_limit: Duration | None = Field(
        None,
        description="a search that takes longer fails; it is never cut short, since then the clock would choose the model",
    )
    space: Mapping[str, Range | tuple[Value, ...]] = Field(
        min_length=1, description="by parameter: {low, high, log} or a list of choices"
    )

    @model_validator(mode="after")
    def _has_choices(self) -> Self:
        for name, space in self.space.items():
            if isinstance(space, tuple) and not space:
                raise ValueError(f"space: {name}: a list of choices needs at least one")
        return self


class Candidate(Strict):
    """An estimator and its parameters. The preprocessing comes with it."""

    estimator: Estimator = Field(description="its preprocessing comes with it")
    params: Mapping[str, Value] = Field(default_factory=dict, description="by the name that the estimator has for them")
    search: Search | None = Field(None, description="a seeded search over some parameters")

    @model_validator(mode="after")
    def _parameters_exist(self) -> Self:
        _require_declared(self.estimator, "params", self.params)
        _require_declared(self.estimator, "search.space", self.search.space if self.search else ())
        return self


def _require_declared(estimator: Estimator, where: str, names: Iterable[str]) -> None:
    """Refuse a parameter that the estimator does not have, or that is not ours to set."""
    for name in names:
        if name not in PARAMETERS[estimator]:
            near = difflib.get_close_matches(name, PARAMETERS[estimator], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(PARAMETERS[estimator])}"
            raise ValueError(f"{where}: {estimator} has no parameter {name!r} here; {hint}")


class TrainingConfig(Strict):
    """How a challenger is made."""

    window: TrainingWindow
    candidates: Mapping[Name, Candidate] = Field(
        min_length=1, description="the best on the validation splits goes to the gate"
    )
    splits: int = Field(
        3,
        ge=1,
        le=20,
        description="validation splits before the holdout, each as long as it; every one is predicted from what lies before it",
    )
    baseline: Literal["prior", "linear"] = Field(
        "linear",
        description="what a candidate must beat on the splits; the prior always, the linear model too unless it is one itself",
    )
    calibration: Literal["none", "sigmoid", "isotonic"] = Field(
        "sigmoid", description="how probabilities are calibrated where that helps on the newer half of the splits"
    )
    refit: Literal["window", "none"] = Field(
        "window", description="fit what passed once more, with the holdout's rows too"
    )
    seed: int = Field(0, ge=0, description="of everything that is drawn: searches, bootstraps, samples")
