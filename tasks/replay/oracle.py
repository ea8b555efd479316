"""The best retraining times in hindsight: a ceiling for every policy, since it knows what came.

By dynamic programming over the models that a retraining at each moment would have made, ungated and each from its own window alone
(no warm start). So it is a ceiling over that set only. The optimum of a retraining schedule under a cost is the baseline of
Mahadevan and Mathioudakis, Cost-Effective Retraining of Machine Learning Models (CARA), 2023, arXiv 2310.04216.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from tasks.contracts import PartitionRef, Recipe, Stage, Version
from tasks.errors import EvergreenError
from tasks.models.features import predict
from tasks.models.metrics import finite, measure, row_loss
from tasks.models.targets import outcomes
from tasks.orchestration.prefect_tasks import run_log, simulation
from tasks.replay.past_resources import ReplayResources
from tasks.replay.policies import BUILT_IN, NEVER
from tasks.resources import Resources
from tasks.steps.collect import COLLECT, join_outcomes, read_outcomes
from tasks.steps.decay import by_block
from tasks.steps.run import with_labels
from tasks.steps.step import NotDue, advance
from tasks.storage.blocks import labelled_blocks
from tasks.training.fit import fitted
from tasks.training.selection import select_candidate
from tasks.training.window import locate_window

Measured = tuple[dict[str, float | None], int, list[list[float]]]
"""Metrics on a partition, its labelled rows, and the judged loss by block, as in a performance record."""


@dataclass(frozen=True)
class Table:
    """What each training would have come to on each later partition.

    Training `k` is as of `moments[k]`; the first makes the first champion, and training `k` can serve partitions from `k` on.
    `found[k][m]` is None where it was not made, or partition `m` has no outcomes.
    """

    moments: tuple[datetime, ...]
    partitions: tuple[str, ...]
    found: tuple[tuple[Measured | None, ...], ...]

    def values(self, metric: str) -> np.ndarray:
        """The metric of each training on each partition, `(trainings, partitions)`; NaN where there is none."""
        rows = [
            [np.nan if one is None or one[0].get(metric) is None else one[0][metric] for one in line]
            for line in self.found
        ]
        return np.array(rows, dtype="float64")

    def rows(self) -> np.ndarray:
        """Labelled rows of each partition."""
        return np.array(
            [max((one[1] for one in column if one), default=0) for column in zip(*self.found, strict=True)],
            dtype="float64",
        )


def measure_all(
    begin: datetime,
    refs: Sequence[PartitionRef],
    live: Resources,
    told: Callable[[PartitionRef], None] = lambda _: None,
) -> Table:
    """Train as of every moment of the range but the last, and measure each model on every later partition."""
    res = ReplayResources(live, BUILT_IN[NEVER], begin)
    moments = [begin, *(ref.as_of for ref in refs[:-1])]
    made: list[Version | None] = []
    with simulation():
        for moment, ref in zip(moments, refs, strict=True):
            made.append(_train(moment, res))
            res.lake.now = ref.as_of
            told(ref)
        # As the policies' steps are in the end: by every outcome that came within the range.
        columns = [_measure(made[: at + 1], res.ref(ref.key, refs[-1].as_of), res) for at, ref in enumerate(refs)]
    lines = [tuple(columns[m][k] if k <= m else None for m in range(len(refs))) for k in range(len(moments))]
    return Table(tuple(moments), tuple(ref.key for ref in refs), tuple(lines))


def _train(moment: datetime, res: ReplayResources) -> Version | None:
    """The version that a retraining would have served, had the gate let it through; None where nothing can be fitted."""
    try:
        window = with_labels(locate_window(res, moment), res, lambda step, ref: advance(step, ref, res))
        recipe: Recipe | None = select_candidate(window, res).recipe
        if recipe is None:
            return None
        challenger = fitted("challenger", recipe, "", window, res)
        if res.config.training.refit == "none":
            return challenger
        return fitted("refit", recipe, challenger.training_run, window, res, judged_as=challenger.version)
    except EvergreenError as error:
        run_log().warning("no training as of %s: %s", moment, error)
        return None


def _measure(versions: Sequence[Version | None], ref: PartitionRef, res: ReplayResources) -> list[Measured | None]:
    """What each version comes to on a partition's outcomes, as they are known at the ref's moment."""
    valid = res.lake.record(Stage.VALID, ref.key)
    try:
        labels = advance(COLLECT, ref, res)
    except (EvergreenError, NotDue):
        return [None] * len(versions)
    if valid is None or "blocked" in (valid.status, labels.status) or not labels.data["mature"]:
        return [None] * len(versions)
    config = res.config

    def make() -> list[Measured | None]:
        outcome_of = read_outcomes(res, ref.key, ref.as_of)
        rows = join_outcomes(res.lake.read(Stage.VALID, ref.key), outcome_of, config)
        outcome, blocks = outcomes(rows, config.target), labelled_blocks(rows, config)

        def one(version: Version) -> Measured:
            said = predict(res.load(version.version), rows, config)
            losses = by_block(row_loss(outcome, said, config.target), blocks)
            return finite(measure(outcome, said, config.target)), len(rows), losses

        return [one(version) if version else None for version in versions]

    rules = config.model_dump(mode="json", include={"partition", "target", "features", "gate"})
    digests = [version.digest if version else None for version in versions]
    made_of = ["measure", MEASURE, digests, valid.digest, labels.digest, ref.as_of, rules]
    found: list[Measured | None] = res.once(list[Measured | None], lambda: made_of, make)
    return found


MEASURE = 1
"""Raised when the same versions and rows would be measured otherwise."""


@dataclass(frozen=True)
class Schedule:
    """When to train: positions in `Table.moments`, the first champion's left out; and the mean of the metric that comes of it."""

    trainings: tuple[int, ...]
    mean: float


def best_schedules(values: np.ndarray, rows: np.ndarray) -> list[Schedule]:
    """The schedule with the lowest mean for each number of retrainings, from none to all.

    `values` is `(trainings, partitions)` of a metric that is better when lower, NaN below the diagonal. Partitions weigh by `rows`.
    Dynamic programming: `best[k]` is the lowest sum up to a partition with training `k` in service.
    """
    trainings, partitions = values.shape
    told = np.isfinite(values).any(axis=0)
    weights = np.where(told, rows, 0.0)
    loss = np.where(np.isfinite(values), values, np.inf)
    loss = np.where(weights > 0, loss, 0.0) * np.where(weights > 0, weights, 1.0)
    total = weights.sum()
    found = []
    # best[k] after the partitions so far with n retrainings; back[n][m][k] is the training in service before.
    best = [np.full((partitions + 1, trainings), np.inf) for _ in range(trainings)]
    back = [np.full((partitions + 1, trainings), -1) for _ in range(trainings)]
    best[0][0, 0] = 0.0
    for m in range(partitions):
        for n in range(min(m, trainings - 1) + 1):
            stay = best[n][m]
            came, before = stay.copy(), np.arange(trainings)
            if n and m < trainings and m > 0:
                earlier = int(np.argmin(best[n - 1][m]))
                if best[n - 1][m][earlier] < came[m]:
                    came[m], before[m] = best[n - 1][m][earlier], earlier
            best[n][m + 1] = came + loss[:, m]
            back[n][m + 1] = before
    for n in range(trainings):
        k = int(np.argmin(best[n][partitions]))
        if not np.isfinite(best[n][partitions][k]) or not total:
            continue
        chosen, at, left = [], k, n
        for m in range(partitions, 0, -1):
            before_it = int(back[left][m][at])
            if before_it != at:
                chosen.append(at)
                at, left = before_it, left - 1
        found.append(Schedule(tuple(reversed(chosen)), float(best[n][partitions][k] / total)))
    return found
