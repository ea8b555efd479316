"""Decay: the champion's loss is higher than expected from the periods on which its recipe and it were measured before."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from configs.monitoring import Decay
from configs.target import Target
from tasks.contracts import Interval, PartitionRef, Period, Promotion, Record, Stage, Version
from tasks.errors import UnknownVersion
from tasks.models.bootstrap import block_sums, common_dependence, mean_bounds, mean_variance
from tasks.models.dependence import Autocorrelation
from tasks.models.metrics import LEVEL, finite
from tasks.models.random_effects import Pooled, pool
from tasks.models.skill import relative_loss
from tasks.resources import Resources
from tasks.steps.periods import block_totals, cut_period, join_periods, period_of, staged_periods
from tasks.steps.score import scored_by
from tasks.steps.step import NotDue


def decay_at(ref: PartitionRef, res: Resources) -> dict[str, Any]:
    """Whether the loss is higher than expected, over the newest `monitoring.decay.partitions` partitions that the same champion scored.

    Args:
        ref: The newest partition to use.
        res: The model's resources.

    Returns:
        The loss as `value`, the `partitions`, and the fields of `judge_period`, or for a version of an older release of `judge_rise`.
        Without records only `detected` and `note`.
    """
    rules, target = res.config.monitoring.decay, res.config.target
    newest = newest_records(ref, res)
    if not newest:
        return {"detected": False, "note": "no labels have matured"}
    current = join_periods([period_of(record) for record in newest])
    rows, sums = block_totals(current)
    loss = {"value": float(sums.sum() / rows.sum()), "partitions": [record.partition for record in newest]}
    references = staged_periods(newest[-1].data["version"], res.ledger.promotions())
    if references:
        return loss | judge_period(current, references, target, rules)
    bounds = mean_bounds(sums, rows, LEVEL, res.config.gate.gain.resamples, res.config.training.seed, 0.0)
    return loss | judge_rise(bounds, loss_at_promotion(ref, res), int(rows.sum()), rules)


def newest_records(ref: PartitionRef, res: Resources) -> list[Record]:
    """The newest performance records up to the ref's partition, oldest first, all of one version."""
    records: list[Record] = []
    for key in reversed(res.lake.keys(Stage.PERFORMANCE)):
        if res.ref(key).start > ref.start or len(records) == res.config.monitoring.decay.partitions:
            continue
        record = res.lake.record(Stage.PERFORMANCE, key)
        if record is None or record.status != "done" or not record.data["blocks"]:
            continue
        if records and record.data["version"] != records[0].data["version"]:
            break
        if not records and key != ref.key:
            break  # the ref's partition itself has no record
        records.append(record)
    return records[::-1]


def judge_period(current: Period, references: Sequence[Period], target: Target, rules: Decay) -> dict[str, Any]:
    """Compare a loss and its skill with those of earlier periods. Decay is a fall of skill that is both significant and relevant.

    A loss alone also rises when the base rate does. So decay is judged by the loss as a share of that of the period's own prior, which
    is 1 - skill. It must rise by `rules.least` of its expected value: at the same base rate, the loss rises by as much.
    Where the period has no skill, the loss itself is judged.

    Args:
        current: The period to judge.
        references: The earlier ones, oldest first. They are cut to about the length of `current`.
        target: The model's target.
        rules: The relevant rise and the smallest number of rows.

    Returns:
        Of the loss: the `expected` one, the `rise`, its `lower` bound (one-sided 97.5 %), and the `least` relevant rise. Of the skill, if
        there is one: `skill`, `expected_skill`, and the lower bound `skill_lower` of its fall. `judged_by` is `skill` or `loss`,
        `periods` the number of earlier ones, `detected` the result, and `note` the reason if it cannot be judged.
    """
    loss = _compare(mean_loss, current, references)
    share = _compare(lambda period: _relative_loss(period, target), current, references)
    judged, rows = share if np.isfinite(share.lower) else loss, sum(n for _, n, _ in current.blocks)
    skill = {"skill": 1 - share.value, "expected_skill": 1 - share.expected, "skill_lower": share.lower}
    note = "" if np.isfinite(judged.lower) else "the loss cannot be judged: too few blocks"
    note = note if rows >= rules.min_rows else f"{rows} rows, monitoring.decay.min_rows is {rules.min_rows}"
    return {
        **finite({"expected": loss.expected, "rise": loss.value - loss.expected, "lower": loss.lower}),
        **finite({"least": rules.least * loss.expected}),
        **(finite(skill) if judged is share else {}),
        "judged_by": "skill" if judged is share else "loss",
        "periods": judged.periods,
        "detected": not note and judged.lower > 0 and judged.value >= (1 + rules.least) * judged.expected,
        "note": note,
    }


class _Level(NamedTuple):
    """A loss, or its share of the prior's, with the sums and rows of its blocks."""

    value: float
    sums: np.ndarray
    rows: np.ndarray


class _Rise(NamedTuple):
    """A value, what is expected of it by a number of periods, and the lower bound of value minus expected; NaN if unknown."""

    value: float
    expected: float
    lower: float
    periods: int


def _compare(measure: Callable[[Period], _Level], current: Period, references: Sequence[Period]) -> _Rise:
    """Compare a period with the parts of earlier ones, as ratios: a loss that doubles is as far away at each level.

    The rows of the period are taken to vary as those of the others do (the median of their variances), unless they vary less.
    A decay that is worse on some days than on others would hide itself otherwise.
    """
    last = measure(current)
    expected, scale, dependence = expect(measure, references, len(last.rows))
    variance = mean_variance(last.sums, last.rows, dependence) / last.value**2 if last.value > 0 else float("nan")
    if not (variance > 0 and expected.periods):
        return _Rise(last.value, float(np.exp(expected.mean)), float("nan"), expected.periods)
    variance = min(variance, scale / float(last.rows.sum()))
    error, mean = expected.prediction_error(variance, len(last.rows), LEVEL), float(np.exp(expected.mean))
    return _Rise(last.value, mean, last.value * float(np.exp(-error)) - mean, expected.periods)


def expect(
    measure: Callable[[Period], _Level], references: Sequence[Period], blocks: int
) -> tuple[Pooled, float, Autocorrelation]:
    """Pool the logarithms of earlier periods' levels, each cut into parts of about as many `blocks`.

    Returns:
        What is expected, the median variance of a part times its rows, and the autocorrelation of blocks.
    """
    wholes = [level for level in map(measure, references) if level.value > 0]
    dependence = common_dependence([level[1:] for level in wholes] or [(np.ones(1), np.ones(1))])
    known = []
    for level in (measure(part) for period in references for part in cut_period(period, blocks)):
        variance = mean_variance(level.sums, level.rows, dependence)
        if level.value > 0 and variance > 0:
            known.append((float(np.log(level.value)), variance / level.value**2, float(level.rows.sum())))
    if not known:
        return Pooled(float("nan"), float("nan"), float("nan"), 0), float("nan"), dependence
    values, variances, rows = np.array(known).T
    return pool(values, variances), float(np.median(variances * rows)), dependence


def mean_loss(period: Period) -> _Level:
    """The mean loss of a period."""
    rows, sums = block_totals(period)
    return _Level(float(sums.sum() / rows.sum()), sums, rows)


def _relative_loss(period: Period, target: Target) -> _Level:
    """The loss of a period as a share of its prior's; NaN without the outcomes."""
    numbers, rows, losses = np.array(period.blocks, dtype="float64").T
    share, sums = float("nan"), np.full(len(rows), np.nan)
    if period.outcomes:
        share, sums = relative_loss(rows, losses, period.outcomes, target)
    return _Level(share, block_sums(sums, numbers)[0], block_sums(rows, numbers)[0])


def losses_by_block(losses: np.ndarray, numbers: np.ndarray) -> list[list[float]]:
    """Losses of rows as `[block, rows, sum of losses]` for a record, oldest first; empty if a loss is not finite."""
    if not len(losses) or not np.isfinite(losses).all():
        return []
    sums, rows = block_sums(losses, numbers)
    return [[int(b), int(r), float(s)] for b, r, s in zip(np.unique(numbers), rows, sums, strict=True)]


def loss_at_promotion(ref: PartitionRef, res: Resources) -> Interval | None:
    """The holdout loss at promotion of the version that scored a partition; None if unknown. For versions of older releases."""
    try:
        champion = scored_by(ref, res)
        version = res.registry.cached_version(champion.version)
    except (NotDue, UnknownVersion):
        return None
    rows = [row for row in res.ledger.promotions() if row.sequence <= champion.sequence]
    return scorecard_loss(version, res.config.target.eval_loss, rows)


def scorecard_loss(version: Version, loss: str, rows: Sequence[Promotion]) -> Interval | None:
    """A champion's loss on its newest scorecard, with the 95 % interval.

    The scorecard of the shadow period is newer than that of the holdout. A refit has the scorecard of the judged version.

    Args:
        version: The champion.
        loss: Name of the loss.
        rows: The model's promotions, oldest first.

    Returns:
        The loss; None if the ledger has none.
    """
    for row in reversed(rows):
        if row.version != version.version or row.action not in ("stage", "promote", "adopt"):
            continue
        cards = row.evidence.get("scorecards", {})
        for number in (version.version, version.judged_as):
            card = cards.get(number) or {}
            value, bounds = card.get("metrics", {}).get(loss), card.get("intervals", {}).get(loss)
            if value is not None and bounds and None not in bounds:
                return Interval(value, *bounds)
    return None


def judge_rise(loss: Interval, expected: Interval | None, rows: int, rules: Decay) -> dict[str, Any]:
    """Compare a loss with the loss at promotion. A decay is a rise that is both significant and relevant.

    The lower bound of the rise is one-sided at 97.5 %. It follows from the two intervals by MOVER, the method of variance estimates
    recovery (Zou and Donner 2008).

    Args:
        loss: The current loss with its interval.
        expected: The loss at promotion with its interval; None if unknown.
        rows: Rows behind the current loss.
        rules: The relevant rise and the smallest number of rows.

    Returns:
        `detected`, and a `note` with the reason if the rise cannot be judged. Further the `expected` loss, the `rise`, its `lower`
        bound and the `least` relevant rise.
    """
    if expected is None:
        return {"detected": False, "note": "the ledger has no loss of this version on a holdout"}
    rise = loss.value - expected.value
    lower = rise - ((loss.value - loss.lower) ** 2 + (expected.upper - expected.value) ** 2) ** 0.5
    least, finite = rules.least * abs(expected.value), bool(np.isfinite(lower))
    note = f"{rows} rows, monitoring.decay.min_rows is {rules.min_rows}" if rows < rules.min_rows else ""
    return {
        "expected": expected.value,
        "rise": rise,
        "lower": float(lower) if finite else None,
        "least": least,
        "detected": bool(not note and finite and lower > 0 and rise >= least),
        "note": note or ("" if finite else "the rise cannot be judged: too few blocks"),
    }
