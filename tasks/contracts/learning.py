"""What a training tried and what it made."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True)
class Window:
    """The partitions a challenger may learn from, and the newest part that it is judged on.

    Rows with time in `[start, holdout_start)` are fitted on, `[holdout_start, end)` are
    the holdout. Only labels known at or before `as_of` count.
    """

    model: str
    partitions: tuple[str, ...]
    passed_over: tuple[str, ...]
    start: datetime
    holdout_start: datetime
    end: datetime
    as_of: datetime

    @property
    def span(self) -> str:
        """First and last partition, for people."""
        return f"{self.partitions[0]} to {self.partitions[-1]}"


@dataclass(frozen=True)
class Learned:
    """The rows of one partition that a version learned from; `digest` is of their values, `path` where they lie."""

    partition: str
    rows: int
    digest: str
    path: str


@dataclass(frozen=True)
class Recipe:
    """What is fitted: a candidate of model.yaml with every parameter settled, searched ones included."""

    candidate: str
    estimator: str
    params: Mapping[str, Any]
    calibration: Literal["none", "sigmoid", "isotonic"] = "none"


BASELINE = "baseline: "
"""What the names of the trials begin with that candidates are held against."""


@dataclass(frozen=True)
class Trial:
    """One candidate or baseline on the validation splits. `loss` is the mean over their rows, lower is better."""

    name: str
    recipe: Recipe
    loss: float
    losses: tuple[float, ...]
    """The loss of each split, oldest first."""
    beats_baseline: bool = True
    note: str = ""
    tried: tuple[Mapping[str, Any], ...] = ()
    """Every trial of its search: number, params and loss."""


@dataclass(frozen=True)
class Selection:
    """What a training tried on its validation splits, the recipe it chose if any beat the baseline, and its MLflow run."""

    run_id: str
    trials: tuple[Trial, ...]
    recipe: Recipe | None


@dataclass(frozen=True)
class Version:
    """One registered version: what it learned from and where it is kept."""

    model: str
    version: str
    run_id: str
    digest: str
    window_start: datetime
    window_end: datetime
    as_of: datetime
    recipe: Recipe
    prior: tuple[float, ...]
    """What the prior predicts: share of positives, share of each class, or mean, among the rows it was fitted on."""
    rows: int
    judged_as: str = ""
    """The version that the gate judged, where this one is its refit on the whole window."""
    training_run: str = ""
    """The MLflow run of the whole training."""
