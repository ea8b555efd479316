"""Persistence: what somebody knows who only repeats the last outcome. A model that does worse has learned less than that.

In two versions: the outcome of the row just before, which is the published protocol on streams with an order, and the last outcome
that was known when the partition began, for all its rows: what a pipeline by partitions could have known. Outcomes are those that hold at
the end of the range: one that was corrected counts as known from its correction on. Rows of the same time follow one another by key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Stage
from tasks.errors import EvergreenError
from tasks.orchestration.prefect_tasks import simulation
from tasks.replay.past_resources import ReplayResources
from tasks.replay.policies import BUILT_IN, NEVER
from tasks.resources import Resources
from tasks.steps.collect import COLLECT, newest_of
from tasks.steps.step import NotDue, advance

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Persistence:
    """A figure for each version: accuracy for classes, the mean squared error for numbers; over all rows of the range that have both."""

    measure: str
    before: float
    """Of the row just before."""
    known: float
    """Of the last outcome that was known when the partition began."""
    by_partition: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def persistence(refs: Sequence[PartitionRef], live: Resources) -> Persistence | None:
    """None where model.yaml does not say that rows follow one another."""
    if live.config.replay.series is None:
        return None
    import pandas as pd

    res = ReplayResources(live, BUILT_IN[NEVER], refs[-1].as_of)
    with simulation():
        frames = [
            found
            for key in res.lake.keys(Stage.VALID)
            if (found := _told(res.ref(key, refs[-1].as_of), res)) is not None
        ]
    rows = pd.concat(frames, ignore_index=True).sort_values(live.config.time, kind="stable").reset_index(drop=True)
    return repeat_last(rows, refs, live.config)


def _told(ref: PartitionRef, res: ReplayResources) -> "pd.DataFrame | None":
    """Time, series and outcome of a partition's rows, with when each became known."""
    config = res.config
    try:
        labels = advance(COLLECT, ref, res)
    except (EvergreenError, NotDue):
        return None
    valid = res.lake.record(Stage.VALID, ref.key)
    if valid is None or "blocked" in (valid.status, labels.status):
        return None
    columns = list(dict.fromkeys([config.key, config.time, *(config.replay.series or ())]))
    told = newest_of(res.lake.read(Stage.LABELS, ref.key), config, ref.as_of)
    return res.lake.read(Stage.VALID, ref.key, columns).merge(told[told[config.target.column].notna()], on=config.key)


def repeat_last(rows: "pd.DataFrame", refs: Sequence[PartitionRef], config: ModelConfig) -> Persistence:
    """Both versions on the rows of some partitions; `rows` may begin before and are sorted by time."""
    series = list(config.replay.series or ())
    grouped = rows.groupby(series, sort=False, dropna=False) if series else rows.groupby(np.zeros(len(rows)))
    before = grouped[config.target.column].shift(1)
    found: dict[str, tuple[float, float]] = {}
    hits: list[np.ndarray] = []
    for ref in refs:
        here = (rows[config.time] >= ref.start) & (rows[config.time] < ref.end)
        part = rows[here]
        known = _known_at_start(rows, part, series, ref, config)
        both = np.column_stack([_score(part[config.target.column], said, config) for said in (before[here], known)])
        if len(both):
            found[ref.key] = (_mean(both[:, 0]), _mean(both[:, 1]))
            hits.append(both)
    whole = np.concatenate(hits) if hits else np.full((1, 2), np.nan)
    measure = "squared_error" if config.target.kind == "regression" else "accuracy"
    return Persistence(measure, _mean(whole[:, 0]), _mean(whole[:, 1]), found)


def _known_at_start(
    rows: "pd.DataFrame", part: "pd.DataFrame", series: list[str], ref: PartitionRef, config: ModelConfig
) -> "pd.Series":
    """For each row of a partition the last outcome of its series that was known when the partition began."""
    earlier = rows[(rows[config.time] < ref.start) & (rows["known_at"] <= ref.start)]
    if not series:
        last = earlier[config.target.column].iloc[-1] if len(earlier) else np.nan
        return part[config.target.column].map(lambda _: last)
    lasts = earlier.drop_duplicates(series, keep="last")[[*series, config.target.column]]
    joined = part[series].merge(lasts, on=series, how="left")
    return joined[config.target.column].set_axis(part.index)


def _score(outcome: "pd.Series", said: "pd.Series", config: ModelConfig) -> np.ndarray:
    """Right or wrong as 1 or 0, or the squared error; NaN where nothing could be repeated."""
    if config.target.kind == "regression":
        return ((outcome - said) ** 2).to_numpy(dtype="float64")
    return (outcome == said).astype("float64").where(said.notna()).to_numpy(dtype="float64")


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def kappa(accuracy: float, of_persistence: float) -> float:
    """How much better than persistence, as a share of what persistence leaves: `(p - p_per) / (1 - p_per)`.

    Zliobaite, Bifet, Read, Pfahringer and Holmes, Evaluation methods and decision theory for classification of streaming data with
    temporal dependence, Machine Learning 98, 2015.
    """
    return (accuracy - of_persistence) / (1 - of_persistence) if of_persistence < 1 else float("nan")
