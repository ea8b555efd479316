"""The shadow test: challenger and champion on partitions that both scored and whose labels have matured."""

from datetime import datetime
from typing import TYPE_CHECKING

from tasks.contracts import Comparison, PartitionRef, Promotion, Stage, Version
from tasks.ledger.history import was_requested
from tasks.resources import Resources
from tasks.steps.collect import join_outcomes, read_outcomes
from tasks.steps.serving_skew import count_differing
from tasks.storage.frames import concatenate
from tasks.training.evaluation import compare

if TYPE_CHECKING:
    import pandas as pd


def what_it_waits_for(staged: Promotion, res: Resources) -> str:
    """Return what a challenger needs before it can become champion, such as `1 of 3 shadow partitions have matured`.

    Args:
        staged: The row that staged it.
        res: The model's resources.
    """
    champion = res.ledger.champion()
    if was_requested(staged.version, champion, res.ledger.promotions()):
        return "waits for a person's approval"
    needed = res.config.promotion.shadow.partitions if champion else 0
    if champion is None or not needed:
        return "the next `assess` or `train` run advances it"
    return f"{len(matured_shadow(staged, champion, res))} of {needed} shadow partitions have matured"


def matured_shadow(
    staged: Promotion, champion: Promotion, res: Resources, as_of: datetime | None = None
) -> list[PartitionRef]:
    """Return the matured partitions after the challenger's staging that challenger and champion scored, oldest first.

    Partitions that an earlier champion scored do not count, so after a rollback the count starts again at 0.

    Args:
        staged: The row that staged the challenger.
        champion: The row that made the champion.
        res: The model's resources.
        as_of: Leave out partitions with a later as-of; None for no limit.
    """
    refs = []
    for key in res.lake.keys(Stage.SHADOW):
        ref = res.ref(key)
        if as_of is not None and ref.as_of > as_of:
            continue
        records = [
            res.lake.record(stage, key) for stage in (Stage.SHADOW, Stage.PREDICTIONS, Stage.PERFORMANCE, Stage.LABELS)
        ]
        shadow, scored, assessed, labels = records
        if not (shadow and scored and assessed and labels) or any(r and r.status != "done" for r in records):
            continue
        same_versions = shadow.data["version"] == staged.version and scored.data["version"] == champion.version
        mature = (
            assessed.inputs.get(Stage.PREDICTIONS) == scored.digest
            and assessed.inputs.get(Stage.LABELS) == labels.digest
            and labels.data["mature"]
        )
        if same_versions and mature and ref.as_of > staged.as_of:
            refs.append(ref)
    return refs


def compare_in_shadow(challenger: Version, champion: Promotion, refs: list[PartitionRef], res: Resources) -> Comparison:
    """Return the comparison on the labelled rows of these partitions, without rows from either training window."""
    rows = labelled_rows(refs, res)
    start = max(refs[0].start, challenger.window_end, champion.window_end)
    rows = rows[rows[res.config.time] >= start].reset_index(drop=True)
    note = f"in shadow mode, {refs[0].key} to {refs[-1].key}"
    return compare(challenger, champion, rows, (start, refs[-1].end), res, note)


def differing_in_shadow(refs: list[PartitionRef], res: Resources) -> int | None:
    """Return how many rows have a different online prediction than the batch prediction. None if it answered no requests."""
    return count_differing([res.lake.record(Stage.SHADOW, ref.key) for ref in refs])


def labelled_rows(refs: list[PartitionRef], res: Resources) -> "pd.DataFrame":
    """Return the valid rows of some partitions, joined with the outcomes known at the as-of of the newest partition."""
    frames = []
    for ref in refs:
        outcomes = read_outcomes(res, ref.key, refs[-1].as_of)
        frames.append(join_outcomes(res.lake.read(Stage.VALID, ref.key), outcomes, res.config))
    return concatenate(frames, res.config.features.all)
