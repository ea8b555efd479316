"""A change of a model beside its base: both are replayed on the same past, and compared on the rows that both have scored."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from configs.kinds import HIGHER_IS_BETTER, LOWER_IS_BETTER, METRICS
from configs.load import Model
from configs.schema import ModelConfig
from configs.settings import Settings
from configs.target import Target
from tasks.contracts import Interval, PartitionRef, PartitionResult, PolicyRun, Stage
from tasks.lifecycle.gate import visible_in_most_cases
from tasks.models.bootstrap import block_sums, mean_bounds
from tasks.models.metrics import finite, measure, row_loss
from tasks.models.targets import outcomes, prediction_array
from tasks.replay.past_resources import ReplayResources
from tasks.replay.policies import LIVE, policies
from tasks.replay.setup import prepare_replay, prepare_variant
from tasks.replay.simulate import simulate_policy
from tasks.replay.standings import compare
from tasks.resources import live_resources
from tasks.steps.collect import labelled_rows
from tasks.steps.decay import losses_by_block
from tasks.storage.blocks import labelled_blocks

if TYPE_CHECKING:
    import pandas as pd

PARTITION = "scored_partition"
"""Column of the partition in the rows of a side."""


@dataclass(frozen=True)
class Side:
    """The replay of one side, base or change.

    Attributes:
        rows: Scored rows with their outcomes: key, time, target, predictions, and the partition.
        seconds: Time of the replay, with ingest and validation.
    """

    model: Model
    run: PolicyRun
    rows: "pd.DataFrame"
    seconds: float

    @property
    def config(self) -> ModelConfig:
        """The side's config."""
        return self.model.config


@dataclass(frozen=True)
class Change:
    """Both sides, and the gain of the change on the rows that both have scored.

    Attributes:
        base: The base, with its own rows.
        change: The change, with its own rows.
        impossible: Why there is no gain, otherwise empty.
        common: Base and change on the common rows, by the partitions of the base. None without them.
        gains: By metric: the gain of the change with its 95 % interval, None without an interval.
        blocks: Number of blocks of time of the common rows.
        on_a_holdout: Smallest gain that the gate sees in 4 of 5 cases on one holdout, the median over holdouts. NaN if it is unknown.
        on_the_range: The same on all common rows.
    """

    base: Side
    change: Side
    impossible: str = ""
    common: tuple[PolicyRun, PolicyRun] | None = None
    gains: Mapping[str, Interval | None] = field(default_factory=dict)
    blocks: int = 0
    on_a_holdout: float = float("nan")
    on_the_range: float = float("nan")


def replay_side(model: Model, settings: Settings, policy: str, start: str, end: str) -> Side:
    """Ingest, validate and replay one side.

    Args:
        model: The side's model.
        settings: Settings whose lake, home and database the replay may write to.
        policy: Name of the policy. By default the live one of this side.
        start: First partition that is scored.
        end: Last partition, included.

    Raises:
        ConfigError: There is no such policy.
        EvergreenError: The model cannot be replayed on the range.
    """
    began, live, name = time.monotonic(), live_resources(model, settings), policy or LIVE
    chosen = policies(model.config, [name], {})[name]
    live.lake.publishes = False  # both sides may share it, and nobody reads it
    prepare_variant(live.ref(end).end, live)
    setup = prepare_replay(start, end, live)
    parts: list[pd.DataFrame] = []

    def keep_rows(res: ReplayResources) -> None:
        parts.extend(part for ref in setup.refs if (part := _scored_rows(ref, res)) is not None)

    run = simulate_policy(name, chosen, setup.begin, setup.refs, live, on_end=keep_rows)
    return Side(model, run, _concatenate(parts), time.monotonic() - began)


def _scored_rows(ref: PartitionRef, res: ReplayResources) -> "pd.DataFrame | None":
    """Return the predictions of a partition with the outcomes of its assessment, None if it was not assessed."""
    record = res.lake.record(Stage.PERFORMANCE, ref.key)
    if record is None or record.status != "done" or not record.data["mature"]:
        return None
    return labelled_rows(ref.key, record.as_of, res, Stage.PREDICTIONS).assign(**{PARTITION: ref.key})


def _concatenate(parts: "list[pd.DataFrame]") -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def compare_sides(base: Side, change: Side) -> Change:
    """Compare the sides on the rows with the same key and time. All metrics are those of the change's target."""
    if problem := _target_problem(base.config.target, change.config.target):
        return Change(base, change, problem)
    pairs = _common_rows(base, change)
    if pairs is None:
        return Change(base, change, "no row with an outcome has the same key and time in both")
    own, other = pairs
    target, config = change.config.target, change.config
    before, after = outcomes(own, base.config.target), outcomes(other, target)
    if different := int((before != after).sum()):
        share = f"{different:,} of {len(own):,} common rows"
        return Change(base, change, f"the outcome differs in {share}, so the losses are of different targets")
    # The change's names of columns, so that blocks and predictions are read in the same way.
    own = own.rename(columns={base.config.time: config.time, base.config.target.column: target.column})
    common = (
        _run_on(base.run, own, base, config),
        _run_on(change.run, other.assign(**{PARTITION: own[PARTITION]}), base, config),
    )
    difference = row_loss(before, prediction_array(own, target), target) - row_loss(
        after, prediction_array(other, target), target
    )
    sums, rows = block_sums(difference, labelled_blocks(own, config))
    metrics = [m for m in METRICS[target.kind] if m in (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)]
    gains = {m: compare(common[1], common[0], config, metric=m) for m in metrics}
    smallest = _smallest_gain(sums, rows, config)
    return Change(base, change, "", common, gains, len(sums), _on_holdouts(difference, own, config), smallest)


def _target_problem(base: Target, change: Target) -> str:
    """Return why the losses of two targets cannot be compared, empty if they can."""
    for name in ("kind", "classes"):
        if getattr(base, name) != getattr(change, name):
            return f"target.{name} differs, so the losses cannot be compared"
    return ""


def _common_rows(base: Side, change: Side) -> "tuple[pd.DataFrame, pd.DataFrame] | None":
    """Return the rows of both sides with the same key and time, in the same order; None if there are none."""
    if not len(base.rows) or not len(change.rows):
        return None
    tables = [
        side.rows[[side.config.key, side.config.time]]
        .set_axis(["key", "time"], axis=1)
        .assign(**{name: range(len(side.rows))})
        for name, side in (("base", base), ("change", change))
    ]
    tables = [table.assign(key=table["key"].astype(str)) for table in tables]
    at = tables[0].merge(tables[1], on=["key", "time"])
    if not len(at):
        return None
    return base.rows.iloc[at["base"]].reset_index(drop=True), change.rows.iloc[at["change"]].reset_index(drop=True)


def _run_on(run: PolicyRun, rows: "pd.DataFrame", base: Side, config: ModelConfig) -> PolicyRun:
    """Return the run with metrics and losses on these rows, by the partitions of the base."""
    parts = dict(list(rows.groupby(PARTITION, sort=False)))
    steps = []
    for step in base.run.steps:
        part, target = parts.get(step.partition), config.target
        if part is None:
            steps.append(PartitionResult(step.partition, step.as_of, note="no common rows"))
            continue
        outcome, prediction = outcomes(part, target), prediction_array(part, target)
        losses = losses_by_block(row_loss(outcome, prediction, target), labelled_blocks(part, config))
        metrics, blocks = finite(measure(outcome, prediction, target)), tuple(map(tuple, losses))
        steps.append(PartitionResult(step.partition, step.as_of, "", len(part), metrics, {}, blocks))
    return replace(run, steps=tuple(steps))


def _smallest_gain(sums: np.ndarray, rows: np.ndarray, config: ModelConfig) -> float:
    """Return the smallest gain of a change that passes `gate.gain` in 4 of 5 cases on these blocks; NaN with too few blocks."""
    rule = config.gate.gain
    if len(sums) < rule.min_blocks:
        return float("nan")
    bounds = mean_bounds(sums, rows, rule.confidence, rule.resamples, config.training.seed)
    return visible_in_most_cases(bounds.value - bounds.lower, rule.confidence, rule.min_gain)


def _on_holdouts(difference: np.ndarray, rows: "pd.DataFrame", config: ModelConfig) -> float:
    """Return the median of `_smallest_gain` over consecutive holdouts; NaN if none has enough blocks."""
    number = ((rows[config.time] - rows[config.time].min()) // config.training.window.holdout).to_numpy()
    blocks = labelled_blocks(rows, config)
    smallest = np.array(
        [
            _smallest_gain(*block_sums(difference[at], blocks[at]), config)
            for at in (number == n for n in np.unique(number))
        ]
    )
    known = smallest[np.isfinite(smallest)]
    return float(np.median(known)) if len(known) else float("nan")
