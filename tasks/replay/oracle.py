"""The best retraining schedule in hindsight: an upper limit for every policy, since it uses the outcomes of the whole range.

Dynamic programming over the models that a retraining at each point in time would have given, without the gate and each from its own
window (no warm start). So it is an upper limit over these models only. The optimal retraining schedule under a cost is the baseline of
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
from tasks.replay.past_resources import ReplayResources, replay_resources
from tasks.replay.policies import BUILT_IN, NEVER
from tasks.replay.simulate import events
from tasks.resources import Resources
from tasks.steps.collect import COLLECT, labelled_rows
from tasks.steps.decay import losses_by_block
from tasks.steps.run import collect_labels
from tasks.steps.step import NotDue, advance
from tasks.storage.blocks import labelled_blocks
from tasks.training.fit import fit_version
from tasks.training.selection import select_candidate
from tasks.training.window import locate_window

Measurement = tuple[dict[str, float | None], int, list[list[float]]]
"""Metrics on a partition, its number of labelled rows, and the loss by block, as in a performance record."""


@dataclass(frozen=True)
class TrainingTable:
    """The metrics of each possible training on each later partition.

    Training `k` is as of `moments[k]` and can score partitions from `k` on. Training 0 gives the first champion.
    `measurements[k][m]` is None if training `k` failed or partition `m` has no outcomes.
    """

    moments: tuple[datetime, ...]
    partitions: tuple[str, ...]
    measurements: tuple[tuple[Measurement | None, ...], ...]

    def values(self, metric: str) -> np.ndarray:
        """Return the metric of each training on each partition, of shape (trainings, partitions); NaN if there is none."""
        rows = [
            [np.nan if m is None or m[0].get(metric) is None else m[0][metric] for m in row]
            for row in self.measurements
        ]
        return np.array(rows, dtype="float64")

    def rows(self) -> np.ndarray:
        """Return the number of labelled rows of each partition as float64."""
        return np.array(
            [max((m[1] for m in column if m), default=0) for column in zip(*self.measurements, strict=True)],
            dtype="float64",
        )


def measure_all(
    begin: datetime,
    refs: Sequence[PartitionRef],
    live: Resources,
    on_partition: Callable[[PartitionRef], None] = lambda _: None,
) -> TrainingTable:
    """Train as of `begin` and of the last moment before every further partition, and measure each model on every later partition.

    Args:
        begin: As-of of the first champion's training.
        refs: The partitions of the range, oldest first.
        live: The model's production resources.
        on_partition: Called after each partition's training.
    """
    res = replay_resources(live, BUILT_IN[NEVER], begin)
    every = [moment for moment, *_ in events(refs, live)]
    moments = [begin, *(max(m for m in every if m < ref.complete) for ref in refs[1:])]
    versions: list[Version | None] = []
    with simulation():
        for moment, ref in zip(moments, refs, strict=True):
            res.lake.now = moment
            versions.append(_train(moment, res))
            on_partition(ref)
        # By all outcomes that were known at the end of the range, as in the policies' results.
        res.lake.now = end = refs[-1].matured
        columns = [_measure(versions[: at + 1], ref.at(end), res) for at, ref in enumerate(refs)]
    rows = [tuple(columns[m][k] if k <= m else None for m in range(len(refs))) for k in range(len(moments))]
    return TrainingTable(tuple(moments), tuple(ref.key for ref in refs), tuple(rows))


def _train(moment: datetime, res: ReplayResources) -> Version | None:
    """Train as of a point in time without the gate; return None if no version can be fitted."""
    try:
        window = collect_labels(locate_window(res, moment), res, lambda step, ref: advance(step, ref, res))
        recipe: Recipe | None = select_candidate(window, res).recipe
        if recipe is None:
            return None
        challenger = fit_version("challenger", recipe, "", window, res)
        if res.config.training.refit == "none":
            return challenger
        return fit_version("refit", recipe, challenger.training_run, window, res, judged_as=challenger.version)
    except EvergreenError as error:
        run_log().warning("no training as of %s: %s", moment, error)
        return None


def _measure(versions: Sequence[Version | None], ref: PartitionRef, res: ReplayResources) -> list[Measurement | None]:
    """Measure each version on a partition, by the outcomes that are known as of `ref.as_of`."""
    valid = res.lake.record(Stage.VALID, ref.key)
    try:
        labels = advance(COLLECT, ref, res)
    except (EvergreenError, NotDue):
        return [None] * len(versions)
    if valid is None or "blocked" in (valid.status, labels.status) or not labels.data["mature"]:
        return [None] * len(versions)
    config = res.config

    def compute() -> list[Measurement | None]:
        rows = labelled_rows(ref.key, ref.as_of, res)
        outcome, blocks = outcomes(rows, config.target), labelled_blocks(rows, config)

        def measure_version(version: Version) -> Measurement:
            prediction = predict(res.load(version.version), rows, config)
            losses = losses_by_block(row_loss(outcome, prediction, config.target), blocks)
            return finite(measure(outcome, prediction, config.target)), len(rows), losses

        return [measure_version(version) if version else None for version in versions]

    rules = config.model_dump(mode="json", include={"partition", "target", "features", "gate"})
    digests = [version.digest if version else None for version in versions]
    inputs = ["measure", MEASURE_VERSION, digests, valid.digest, labels.digest, ref.as_of, rules]
    measurements: list[Measurement | None] = res.cache.result(list[Measurement | None], lambda: inputs, compute)
    return measurements


MEASURE_VERSION = 1
"""Increase it when a code change gives other measurements for the same versions and rows."""


@dataclass(frozen=True)
class Schedule:
    """A retraining schedule."""

    trainings: tuple[int, ...]
    """Positions in `TrainingTable.moments`, without the first champion's training."""
    mean: float
    """Mean of the metric, as a loss."""


def best_schedules(values: np.ndarray, rows: np.ndarray) -> list[Schedule]:
    """Find the schedule with the lowest mean for each number of retrainings, from none to all.

    Args:
        values: A metric that is better when lower, of shape (trainings, partitions), NaN below the diagonal.
        rows: Weight of each partition.
    """
    trainings, partitions = values.shape
    loss, total = _weighted_losses(values, rows)
    schedules = []
    # best[n][m][k]: lowest sum over the first m partitions with n retrainings, if training k scored the last one.
    # back[n][m][k]: the training that scored the partition before.
    best = [np.full((partitions + 1, trainings), np.inf) for _ in range(trainings)]
    back = [np.full((partitions + 1, trainings), -1) for _ in range(trainings)]
    best[0][0, 0] = 0.0
    for m in range(partitions):
        for n in range(min(m, trainings - 1) + 1):
            sums, previous = best[n][m].copy(), np.arange(trainings)
            if n and m < trainings and m > 0:
                replaced = int(np.argmin(best[n - 1][m]))
                if best[n - 1][m][replaced] < sums[m]:
                    sums[m], previous[m] = best[n - 1][m][replaced], replaced
            best[n][m + 1] = sums + loss[:, m]
            back[n][m + 1] = previous
    for n in range(trainings):
        k = int(np.argmin(best[n][partitions]))
        if not np.isfinite(best[n][partitions][k]) or not total:
            continue
        reversed_trainings, current, remaining = [], k, n
        for m in range(partitions, 0, -1):
            before = int(back[remaining][m][current])
            if before != current:
                reversed_trainings.append(current)
                current, remaining = before, remaining - 1
        schedules.append(Schedule(tuple(reversed(reversed_trainings)), float(best[n][partitions][k] / total)))
    return schedules


def calendar_schedules(values: np.ndarray, rows: np.ndarray) -> list[Schedule]:
    """Return the schedule that retrains after every k-th partition, as the policy `every_k` without the gate, for each k from 1.

    The last one never retrains. A training that failed counts, and the model before it keeps scoring.

    Args:
        values: A metric that is better when lower, of shape (trainings, partitions), NaN below the diagonal.
        rows: Weight of each partition.
    """
    trainings, partitions = values.shape
    every = [tuple(range(k, trainings, k)) for k in range(1, trainings + 1)]
    scheduled = np.zeros((trainings, partitions), dtype=bool)
    for schedule, positions in zip(scheduled, every, strict=True):
        schedule[list(positions)] = True
    means = _means(scheduled, values, rows)
    return [Schedule(at, float(mean)) for at, mean in zip(every, means, strict=True) if np.isfinite(mean)]


def random_schedules(values: np.ndarray, rows: np.ndarray, n: int, count: int, seed: int) -> np.ndarray:
    """Return the mean losses of random schedules with `n` retrainings at different positions, all sets of positions equally probable.

    Args:
        values, rows: As in `calendar_schedules`, also for trainings that failed.
        n: Retrainings of each schedule, at most trainings - 1.
        count: Number of schedules.
        seed: Seed of the random numbers.

    Returns:
        float64 `(count,)`.
    """
    trainings, partitions = values.shape
    draws = np.random.default_rng(seed).random((count, trainings - 1)).argsort(axis=1)[:, :n]
    scheduled = np.zeros((count, partitions), dtype=bool)
    np.put_along_axis(scheduled, draws + 1, True, axis=1)
    return _means(scheduled, values, rows)


def _weighted_losses(values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Return each loss times its partition's weight, infinite where there is none, and the sum of weights.

    Partitions without outcomes have weight 0.
    """
    finite_values = np.isfinite(values)
    weights = np.where(finite_values.any(axis=0), rows, 0.0)
    loss = np.where(finite_values, values, np.inf)
    return np.where(weights > 0, loss, 0.0) * np.where(weights > 0, weights, 1.0), float(weights.sum())


def _means(scheduled: np.ndarray, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean loss of schedules, float64 `(schedules,)`; not finite if no model could score a partition with outcomes.

    Args:
        scheduled: Whether a schedule retrains before a partition, bool `(schedules, partitions)`.
    """
    loss, total = _weighted_losses(values, rows)
    trainings, partitions = loss.shape
    positions = np.arange(partitions)
    fitted = np.array([np.isfinite(loss[min(m, trainings - 1), m:]).all() and m < trainings for m in positions])
    current = np.maximum.accumulate(np.where(scheduled & fitted, positions, 0), axis=1)
    return np.asarray(loss[current, positions].sum(axis=1) / total) if total else np.full(len(scheduled), np.nan)
