"""What a challenger said in the champion's shadow, once its outcomes are known."""

from typing import TYPE_CHECKING

from tasks.contracts import Comparison, PartitionRef, Promotion, Stage, Version
from tasks.resources import Resources
from tasks.steps.collect import join_outcomes, read_outcomes
from tasks.steps.serving_skew import differing
from tasks.storage.frames import concatenate
from tasks.training.evaluation import compare

if TYPE_CHECKING:
    import pandas as pd


def matured_shadow(staged: Promotion, champion: Promotion, res: Resources) -> list[PartitionRef]:
    """Partitions after the challenger's staging that both have scored and that were assessed since, oldest first.

    Only those count that the present champion scored: after a rollback the count begins anew.
    """
    found = []
    for key in res.lake.keys(Stage.SHADOW):
        ref = res.ref(key)
        records = [
            res.lake.record(stage, key) for stage in (Stage.SHADOW, Stage.PREDICTIONS, Stage.PERFORMANCE, Stage.LABELS)
        ]
        shadow, scored, assessed, labels = records
        if not (shadow and scored and assessed and labels) or any(r and r.status != "done" for r in records):
            continue
        by = shadow.data["version"] == staged.version and scored.data["version"] == champion.version
        mature = (
            assessed.inputs.get(Stage.PREDICTIONS) == scored.digest
            and assessed.inputs.get(Stage.LABELS) == labels.digest
            and labels.data["mature"]
        )
        if by and mature and ref.as_of > staged.as_of:
            found.append(ref)
    return found


def compare_in_shadow(challenger: Version, champion: Promotion, refs: list[PartitionRef], res: Resources) -> Comparison:
    """Both on the labelled rows of these partitions, which neither had learned from."""
    rows = labelled_rows(refs, res)
    start = max(refs[0].start, challenger.window_end, champion.window_end)
    rows = rows[rows[res.config.time] >= start].reset_index(drop=True)
    note = f"in the champion's shadow, {refs[0].key} to {refs[-1].key}"
    return compare(challenger, champion, rows, (start, refs[-1].end), res, note)


def differing_in_shadow(refs: list[PartitionRef], res: Resources) -> int | None:
    """Rows of these partitions about which the challenger told requests something else; None where it was asked about none."""
    return differing([res.lake.record(Stage.SHADOW, ref.key) for ref in refs])


def labelled_rows(refs: list[PartitionRef], res: Resources) -> "pd.DataFrame":
    """Valid rows of some partitions with the outcomes that were known as of the newest one's moment."""
    frames = []
    for ref in refs:
        known = read_outcomes(res, ref.key, refs[-1].as_of)
        frames.append(join_outcomes(res.lake.read(Stage.VALID, ref.key), known, res.config))
    return concatenate(frames, res.config.features.all)
