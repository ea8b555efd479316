"""Decay: the rise of a champion's loss above its holdout loss at promotion."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from configs.monitoring import Decay
from tasks.contracts import Interval, PartitionRef, Promotion, Record, Stage, Version
from tasks.errors import UnknownVersion
from tasks.models.bootstrap import block_sums, mean_bounds
from tasks.models.metrics import LEVEL
from tasks.resources import Resources
from tasks.steps.score import scored_by
from tasks.steps.step import NotDue


def decay_at(ref: PartitionRef, stage: Stage, res: Resources) -> dict[str, Any]:
    """Whether the loss has risen, over the newest `monitoring.decay.partitions` partitions that the same champion scored.

    Args:
        ref: The newest partition to use.
        stage: `Stage.PERFORMANCE` for the realised loss, `Stage.ESTIMATES` for the estimated one.
        res: The model's resources.

    Returns:
        The loss as `value`, the `partitions`, and the fields of `judge_rise`. Without records only `detected` and `note`.
    """
    rules = res.config.monitoring.decay
    records = newest_records(ref, stage, res)
    if not records:
        return {
            "detected": False,
            "note": "no labels have matured" if stage is Stage.PERFORMANCE else "there is no estimate",
        }
    rows, sums = pool_blocks(records)
    loss = mean_bounds(sums, rows, LEVEL, res.config.gate.gain.resamples, res.config.training.seed, 0.0)
    rise = judge_rise(loss, loss_at_promotion(ref, res), int(rows.sum()), rules)
    return {"value": loss.value, "partitions": [record.partition for record in records], **rise}


def pool_blocks(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Sum the rows and losses of each block of time over records. A block that spans partitions counts once.

    Returns:
        Number of rows and sum of losses, each float64 of shape (blocks,), oldest first.
    """
    totals: dict[int, list[float]] = {}
    for record in records:
        for block, rows, loss in record.data["blocks"]:
            total = totals.setdefault(block, [0.0, 0.0])
            total[0] += rows
            total[1] += loss
    rows, sums = np.array([totals[block] for block in sorted(totals)], dtype="float64").T
    return rows, sums


def newest_records(ref: PartitionRef, stage: Stage, res: Resources) -> list[Record]:
    """The newest records of a stage up to the ref's partition, oldest first, all of one version."""
    records: list[Record] = []
    for key in reversed(res.lake.keys(stage)):
        if res.ref(key).start > ref.start or len(records) == res.config.monitoring.decay.partitions:
            continue
        record = res.lake.record(stage, key)
        if record is None or record.status != "done" or not record.data["blocks"]:
            continue
        if records and record.data["version"] != records[0].data["version"]:
            break
        if not records and key != ref.key:
            break  # the ref's partition itself has no record
        records.append(record)
    return records[::-1]


def losses_by_block(losses: np.ndarray, numbers: np.ndarray) -> list[list[float]]:
    """Losses of rows as `[block, rows, sum of losses]` for a record, oldest first; empty if a loss is not finite."""
    if not len(losses) or not np.isfinite(losses).all():
        return []
    sums, rows = block_sums(losses, numbers)
    return [[int(b), int(r), float(s)] for b, r, s in zip(np.unique(numbers), rows, sums, strict=True)]


def loss_at_promotion(ref: PartitionRef, res: Resources) -> Interval | None:
    """The holdout loss at promotion of the version that scored a partition; None if unknown."""
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
