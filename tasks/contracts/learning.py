"""The input and the results of a training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True)
class Window:
    """The training window and its newest part, the holdout.

    Rows with a time in `[start, holdout_start)` are for fitting, rows in `[holdout_start, end)` are the holdout. Only labels
    that were known at or before `as_of` are used. `passed_over` has the partitions of the window that are blocked.
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
        """First and last partition, as text."""
        return f"{self.partitions[0]} to {self.partitions[-1]}"


@dataclass(frozen=True)
class Learned:
    """The rows of one partition that a version was trained on. `digest` is of their values, `path` is their file."""

    partition: str
    rows: int
    digest: str
    path: str


@dataclass(frozen=True)
class Recipe:
    """A candidate of model.yaml with the values of all its parameters, those from a hyperparameter search included."""

    candidate: str
    estimator: str
    params: Mapping[str, Any]
    calibration: Literal["none", "sigmoid", "isotonic"] = "none"


BASELINE = "baseline: "
"""Prefix of the names of the trials that model.yaml does not name."""
PRIOR = f"{BASELINE}prior"


@dataclass(frozen=True)
class Trial:
    """One candidate or baseline on the validation splits.

    Attributes:
        loss: Mean over the rows of all splits, lower is better.
        losses: Mean of each split, oldest first.
        tried: The trials of the hyperparameter search: number, params and loss of each.
    """

    name: str
    recipe: Recipe
    loss: float
    losses: tuple[float, ...]
    beats_baseline: bool = True
    note: str = ""
    tried: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Selection:
    """The trials on the validation splits, the best recipe (None if nothing beats the prior), and the MLflow run."""

    run_id: str
    trials: tuple[Trial, ...]
    recipe: Recipe | None


@dataclass(frozen=True)
class Period:
    """Losses and outcomes on the labelled rows of one stretch of time, by block. Decay compares later partitions with it.

    Attributes:
        blocks: Block, rows and sum of losses of each block, oldest first.
        outcomes: A summary of the outcomes of each block, see `tasks/models/skill.py`. Empty in records of older releases.
        estimated: Sum of the losses of each block as estimated without its labels; empty without an estimate.
    """

    blocks: tuple[tuple[int, int, float], ...]
    outcomes: tuple[tuple[float, ...], ...] = ()
    estimated: tuple[float, ...] = ()


@dataclass(frozen=True)
class Version:
    """One registered version.

    Attributes:
        digest: Digest of the model's complete state, see `tasks/models/fingerprint.py`.
        window_start: Start of its training window, inclusive.
        window_end: End of its training window, exclusive.
        prior: The constant prediction from the training rows: share of positives, share of each class, or mean.
        rows: Number of training rows.
        judged_as: The version that the gate judged, if this one is its refit on the whole window.
        training_run: The MLflow run of the whole training.
    """

    model: str
    version: str
    run_id: str
    digest: str
    window_start: datetime
    window_end: datetime
    as_of: datetime
    recipe: Recipe
    prior: tuple[float, ...]
    rows: int
    judged_as: str = ""
    training_run: str = ""


@dataclass(frozen=True)
class Registration:
    """What is kept with a version when it is registered.

    Attributes:
        version: Everything but the number and the run, which the registry assigns.
        run_id: Run of the training.
        role: "challenger", "reference" or "refit".
        params: Logged as parameters of the run.
        documents: JSON documents by file name.
        learned: The rows that the model was fitted on, by partition.
        contents: Name of the note by which the contents that the training has read are kept, see `storage/earlier.py`.
    """

    version: Version
    run_id: str
    role: str
    params: Mapping[str, Any]
    documents: Mapping[str, Any]
    learned: Sequence[Learned]
    contents: str = ""
