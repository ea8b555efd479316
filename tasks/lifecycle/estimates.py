"""Intervals of losses that were estimated before labels arrived, from the errors of earlier estimates of the model.

An estimate assumes that the outcome depends on the features as it did on the holdout. Its errors show how far that was wrong. So the
interval is Student's prediction interval for a further error, with the mean square of the errors about 0 as the variance. It includes the
sampling variance, since each error does. The errors are those of the newest matured partitions, of whichever version, and those of the
champion's validation splits and holdout (`tasks/training/periods.py`), so that the first partition has an interval too.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from tasks.contracts import PartitionRef, Period, Promotion, Record, Stage
from tasks.models.metrics import LEVEL
from tasks.resources import Resources
from tasks.steps.decay import expect, loss_at_promotion, mean_loss
from tasks.steps.periods import cut_period, staged_periods
from tasks.steps.step import done_record

NEWEST = 26
"""Matured partitions whose errors count. Older ones are of other versions, and of relations that may have changed since."""


class EstimationError(NamedTuple):
    """Realised minus estimated loss of a partition, and when its labels had matured."""

    partition: str
    as_of: datetime
    error: float


def matured_errors(res: Resources) -> list[EstimationError]:
    """Return the errors of all assessed partitions that had an estimate, oldest first."""
    records = (done_record(Stage.PERFORMANCE, res.ref(key), res) for key in res.lake.keys(Stage.PERFORMANCE))
    return [
        EstimationError(r.partition, r.as_of, float(r.data["estimate"]["error"]))
        for r in records
        if r and r.data["estimate"]["error"] is not None
    ]


def known_errors(record: Record, errors: Sequence[EstimationError]) -> list[float]:
    """Return the errors of the other partitions that had been assessed by the as-of of an estimate, oldest first."""
    return [e.error for e in errors if e.partition != record.partition and e.as_of <= record.as_of]


def validation_errors(periods: Sequence[Period], blocks: int) -> list[float]:
    """Return the errors on a version's validation splits and holdout, in parts of about as many blocks, oldest first."""
    parts = (part for period in periods if period.estimated for part in cut_period(period, blocks))
    return [
        (sum(loss for _, _, loss in part.blocks) - sum(part.estimated)) / sum(rows for _, rows, _ in part.blocks)
        for part in parts
    ]


def estimate_interval(
    record: Record, errors: Sequence[EstimationError], rows: Sequence[Promotion], res: Resources
) -> tuple[float, float] | None:
    """Return the 95 % prediction interval of a partition's loss, as of its estimate; None without an estimate or two errors.

    Args:
        record: The partition's record of the stage `estimates`.
        errors: Of the model, by `matured_errors`.
        rows: The model's promotions.
        res: The model's resources.
    """
    from scipy.special import stdtrit

    value = record.data["metrics"].get(res.config.target.eval_loss)
    if value is None:
        return None
    periods = [period for period in staged_periods(record.data["version"], rows) if period.estimated]
    matured = known_errors(record, errors)[-NEWEST:]
    known = np.array(validation_errors(periods, len(record.data["blocks"])) + matured)
    count = len(periods) + len(matured)  # the parts of one period have a similar error
    if count < 2:
        return None
    half = float(stdtrit(count, LEVEL) * ((known**2).mean() * (1 + 1 / count)) ** 0.5)
    return max(0.0, value - half), value + half


def estimated_decay(ref: PartitionRef, record: Record, res: Resources) -> dict[str, Any]:
    """Whether the estimated loss has risen: the lower end of its interval is above the expected loss, and the rise is relevant.

    Returns:
        The loss as `value`, its `interval`, the `expected` loss, the `rise`, its `lower` bound, the `least` relevant rise, `partitions`,
        and `detected`. Only `detected` and `note` if it cannot be judged.
    """
    interval = estimate_interval(record, matured_errors(res), res.ledger.promotions(), res)
    references = staged_periods(record.data["version"], res.ledger.promotions())
    promoted = None if references else loss_at_promotion(ref, res)
    mean = float(np.exp(expect(mean_loss, references, len(record.data["blocks"]))[0].mean))
    expected = promoted.value if promoted else mean
    if interval is None or not np.isfinite(expected):
        return {"detected": False, "note": "there are no errors of earlier estimates, or no earlier periods"}
    value = record.data["metrics"][res.config.target.eval_loss]
    rise, least = value - expected, res.config.monitoring.decay.least * abs(expected)
    return {
        "value": value,
        "interval": list(interval),
        "partitions": [ref.key],
        "expected": expected,
        "rise": rise,
        "lower": interval[0] - expected,
        "least": least,
        "detected": bool(interval[0] > expected and rise >= least),
        "note": "",
    }
