"""Periods: the losses and outcomes of stretches of time by block, from performance records and from the ledger."""

from collections.abc import Iterator, Sequence

import numpy as np

from tasks.contracts import Period, Promotion, Record
from tasks.models.bootstrap import block_sums

REFERENCES = "references"
"""Key of the ledger's evidence with the periods that a staged version was measured on."""


def period_of(record: Record) -> Period:
    """The losses and outcomes of a partition, from its performance record."""
    blocks = tuple((int(block), int(rows), float(loss)) for block, rows, loss in record.data["blocks"])
    return Period(blocks, tuple(map(tuple, record.data.get("outcomes", ()))))


def join_periods(periods: Sequence[Period]) -> Period:
    """Several periods as one. A block that two of them share occurs twice. Without the outcomes of one, there are none."""
    complete = all(len(period.outcomes) == len(period.blocks) for period in periods)
    outcomes = tuple(values for period in periods for values in period.outcomes) if complete else ()
    estimated = tuple(loss for period in periods for loss in period.estimated)
    return Period(tuple(block for period in periods for block in period.blocks), outcomes, estimated)


def cut_period(period: Period, blocks: int) -> Iterator[Period]:
    """Yield a period in parts of about as many blocks, oldest first."""
    count = len(period.blocks)
    for part in np.array_split(np.arange(count), max(1, round(count / blocks))):
        at = slice(part[0], part[-1] + 1)
        yield Period(period.blocks[at], period.outcomes[at], period.estimated[at])


def block_totals(period: Period) -> tuple[np.ndarray, np.ndarray]:
    """Sum the rows and losses of each block of time. A block that occurs twice counts once.

    Returns:
        Number of rows and sum of losses, each float64 of shape (blocks,), oldest first.
    """
    numbers, rows, losses = np.array(period.blocks, dtype="float64").T
    return block_sums(rows, numbers)[0], block_sums(losses, numbers)[0]


def staged_periods(version: str, rows: Sequence[Promotion]) -> list[Period]:
    """The validation splits and the holdout of a version, oldest first, as recorded when it was staged; none by an older release."""
    staged = (
        row.evidence[REFERENCES] for row in reversed(rows) if row.version == version and REFERENCES in row.evidence
    )
    return [
        Period(tuple(map(tuple, p["blocks"])), tuple(map(tuple, p["outcomes"])), tuple(p["estimated"]))
        for p in next(staged, ())
    ]
