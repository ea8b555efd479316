"""Persistence baseline: predict that the last outcome repeats. Every useful model must be better.

There are two variants:

- the outcome of the previous row, which is the published protocol for ordered streams
- the last outcome that was known when the partition began, for all its rows, since a pipeline of partitions cannot know more

Outcomes are those at the end of the range. A corrected outcome counts as known from its correction on. Rows with the same time are
ordered by key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Stage
from tasks.errors import EvergreenError
from tasks.orchestration.prefect_tasks import simulation
from tasks.replay.past_resources import ReplayResources, replay_resources
from tasks.replay.policies import BUILT_IN, NEVER
from tasks.resources import Resources
from tasks.steps.collect import COLLECT, newest_labels
from tasks.steps.step import NotDue, advance

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Persistence:
    """Accuracy (classes) or mean squared error (regression) of both variants, over the rows of the range for which they exist."""

    measure: str
    before: float
    """Variant with the outcome of the previous row."""
    known: float
    """Variant with the last outcome that was known when the partition began."""
    by_partition: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def persistence(refs: Sequence[PartitionRef], live: Resources) -> Persistence | None:
    """Compute the persistence baseline; return None if model.yaml has no `replay.series`."""
    if live.config.replay.series is None:
        return None
    import pandas as pd

    res = replay_resources(live, BUILT_IN[NEVER], refs[-1].matured)
    with simulation():
        frames = [
            rows
            for key in res.lake.keys(Stage.VALID)
            if (rows := _labelled_rows(res.ref(key, refs[-1].matured), res)) is not None
        ]
    rows = pd.concat(frames, ignore_index=True).sort_values(live.config.time, kind="stable").reset_index(drop=True)
    return repeat_last(rows, refs, live.config)


def _labelled_rows(ref: PartitionRef, res: ReplayResources) -> "pd.DataFrame | None":
    """Read time, series and outcome of a partition's rows, with the time when each outcome became known; None if it is blocked."""
    config = res.config
    try:
        labels = advance(COLLECT, ref, res)
    except (EvergreenError, NotDue):
        return None
    valid = res.lake.record(Stage.VALID, ref.key)
    if valid is None or "blocked" in (valid.status, labels.status):
        return None
    columns = list(dict.fromkeys([config.key, config.time, *(config.replay.series or ())]))
    outcomes = newest_labels(res.lake.read(Stage.LABELS, ref.key), config, ref.as_of)
    return res.lake.read(Stage.VALID, ref.key, columns).merge(
        outcomes[outcomes[config.target.column].notna()], on=config.key
    )


def repeat_last(rows: "pd.DataFrame", refs: Sequence[PartitionRef], config: ModelConfig) -> Persistence:
    """Compute both variants.

    Args:
        rows: Labelled rows with `known_at`, sorted by time; may begin before the first partition.
        refs: The partitions that are evaluated.
    """
    series = list(config.replay.series or ())
    grouped = rows.groupby(series, sort=False, dropna=False) if series else rows.groupby(np.zeros(len(rows)))
    before = grouped[config.target.column].shift(1)
    by_partition: dict[str, tuple[float, float]] = {}
    scores: list[np.ndarray] = []
    for ref in refs:
        within = (rows[config.time] >= ref.start) & (rows[config.time] < ref.end)
        part = rows[within]
        known = _known_at_start(rows, part, series, ref, config)
        both = np.column_stack([_score(part[config.target.column], p, config) for p in (before[within], known)])
        if len(both):
            by_partition[ref.key] = (_mean(both[:, 0]), _mean(both[:, 1]))
            scores.append(both)
    total = np.concatenate(scores) if scores else np.full((1, 2), np.nan)
    measure = "squared_error" if config.target.kind == "regression" else "accuracy"
    return Persistence(measure, _mean(total[:, 0]), _mean(total[:, 1]), by_partition)


def _known_at_start(
    rows: "pd.DataFrame", part: "pd.DataFrame", series: list[str], ref: PartitionRef, config: ModelConfig
) -> "pd.Series":
    """Return for each row of a partition the last outcome of its series that was known when the partition began."""
    earlier = rows[(rows[config.time] < ref.start) & (rows["known_at"] <= ref.start)]
    if not series:
        last = earlier[config.target.column].iloc[-1] if len(earlier) else np.nan
        return part[config.target.column].map(lambda _: last)
    lasts = earlier.drop_duplicates(series, keep="last")[[*series, config.target.column]]
    joined = part[series].merge(lasts, on=series, how="left")
    return joined[config.target.column].set_axis(part.index)


def _score(outcome: "pd.Series", prediction: "pd.Series", config: ModelConfig) -> np.ndarray:
    """Return 1 or 0 for a correct or wrong class, or the squared error; NaN without a prediction."""
    if config.target.kind == "regression":
        return ((outcome - prediction) ** 2).to_numpy(dtype="float64")
    return (outcome == prediction).astype("float64").where(prediction.notna()).to_numpy(dtype="float64")


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def kappa(accuracy: float, persistence_accuracy: float) -> float:
    """Compute the kappa-temporal statistic `(p - p_per) / (1 - p_per)`: 0 is as good as persistence, 1 is perfect.

    Zliobaite, Bifet, Read, Pfahringer and Holmes, Evaluation methods and decision theory for classification of streaming data with
    temporal dependence, Machine Learning 98, 2015.
    """
    return (accuracy - persistence_accuracy) / (1 - persistence_accuracy) if persistence_accuracy < 1 else float("nan")
