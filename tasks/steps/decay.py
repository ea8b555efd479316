"""How far a champion's loss has risen above what the gate saw on its holdout."""

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
    """Whether the loss has risen by the record of a partition and those before it; `stage` says realised or estimated.

    Looks at the newest `monitoring.decay.partitions` partitions up to the ref's that the same champion scored.
    """
    rules = res.config.monitoring.decay
    records = newest_records(ref, stage, res)
    if not records:
        return {
            "detected": False,
            "note": "nothing has matured" if stage is Stage.PERFORMANCE else "there is no estimate",
        }
    rows, sums = pooled(records)
    found = mean_bounds(sums, rows, LEVEL, res.config.gate.gain.resamples, res.config.training.seed)
    rise = decayed(found, expected_loss(ref, res), int(rows.sum()), rules)
    return {"value": found.value, "partitions": [record.partition for record in records], **rise}


def pooled(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and sum of losses of each block of time in some records; a block that spans partitions is one."""
    found: dict[int, list[float]] = {}
    for record in records:
        for block, rows, loss in record.data["blocks"]:
            held = found.setdefault(block, [0.0, 0.0])
            held[0] += rows
            held[1] += loss
    rows, sums = np.array([found[block] for block in sorted(found)], dtype="float64").T
    return rows, sums


def newest_records(ref: PartitionRef, stage: Stage, res: Resources) -> list[Record]:
    """The records of a stage that are looked at together, oldest first: all by one version, and none of a later partition."""
    found: list[Record] = []
    for key in reversed(res.lake.keys(stage)):
        if res.ref(key).start > ref.start or len(found) == res.config.monitoring.decay.partitions:
            continue
        record = res.lake.record(stage, key)
        if record is None or record.status != "done" or not record.data["blocks"]:
            continue
        if found and record.data["version"] != found[0].data["version"]:
            break
        if not found and key != ref.key:
            break  # the partition itself says nothing
        found.append(record)
    return found[::-1]


def by_block(losses: np.ndarray, numbers: np.ndarray) -> list[list[float]]:
    """Rows' losses as `[block, rows, sum of losses]`, oldest first: what a record keeps of them; nothing where a loss is not finite."""
    if not len(losses) or not np.isfinite(losses).all():
        return []
    sums, rows = block_sums(losses, numbers)
    return [[int(b), int(r), float(s)] for b, r, s in zip(np.unique(numbers), rows, sums, strict=True)]


def expected_loss(ref: PartitionRef, res: Resources) -> Interval | None:
    """What the gate had seen, when a partition was scored, of the loss of the version that scored it."""
    try:
        champion = scored_by(ref, res)
        version = res.registry.recall(champion.version)
    except (NotDue, UnknownVersion):
        return None
    rows = [row for row in res.ledger.promotions() if row.sequence <= champion.sequence]
    return judged_loss(version, res.config.target.judged_by, rows)


def judged_loss(version: Version, loss: str, rows: Sequence[Promotion]) -> Interval | None:
    """What the gate saw of a champion's loss, with its 95 % interval; None where the ledger does not say.

    `rows` are the model's, oldest first. The newest scorecard counts: the champion's shadow after the holdout. A refit has
    the judged version's.
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


def decayed(found: Interval, expected: Interval | None, rows: int, rules: Decay) -> dict[str, Any]:
    """The rise of a loss over the expected one, and whether it is a decay: beyond chance, and large enough to matter.

    The rise's lower bound comes of the two intervals by MOVER, the method of variance estimates recovery (Zou and
    Donner 2008), at their level, one-sided 97.5 %. `note` says why nothing could be said.
    """
    if expected is None:
        return {"detected": False, "note": "the ledger has no loss of this version on a holdout"}
    rise = found.value - expected.value
    lower = rise - ((found.value - found.lower) ** 2 + (expected.upper - expected.value) ** 2) ** 0.5
    least, sound = rules.least * abs(expected.value), bool(np.isfinite(lower))
    note = f"{rows} rows, monitoring.decay.min_rows is {rules.min_rows}" if rows < rules.min_rows else ""
    return {
        "expected": expected.value,
        "rise": rise,
        "lower": float(lower) if sound else None,
        "least": least,
        "detected": bool(not note and sound and lower > 0 and rise >= least),
        "note": note or ("" if sound else "the rise cannot be judged: too few blocks"),
    }
