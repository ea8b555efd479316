"""The shadow test: challenger and champion on partitions that both scored and whose labels have matured."""

from datetime import datetime

from tasks.contracts import Burden, Comparison, GateDecision, PartitionRef, Promotion, Stage, Version
from tasks.ledger.history import staged_as, was_requested
from tasks.lifecycle.gate import judge_shadow
from tasks.lifecycle.gate_tasks import log_verdicts
from tasks.resources import Resources
from tasks.steps.collect import labelled_rows
from tasks.steps.serving_skew import count_differing
from tasks.steps.step import done_record, scoring_moment
from tasks.storage.frames import concatenate
from tasks.training.evaluation import compare
from tasks.training.reference import Reference


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
        as_of: Leave out partitions whose labels mature later; None for no limit.
    """
    refs = (ref for key in res.lake.keys(Stage.SHADOW) if scoring_moment(ref := res.ref(key), res) > staged.as_of)
    due = (ref for ref in refs if as_of is None or ref.matured <= as_of)
    return [ref for ref in due if is_matured(ref, champion.version, Stage.SHADOW, staged.version, res)]


def is_matured(ref: PartitionRef, champion: str, stage: Stage, version: str | None, res: Resources) -> bool:
    """Return whether champion and version scored a partition, and it was assessed on the current predictions and matured labels.

    Args:
        ref: The partition.
        champion: The champion's version.
        stage: Where the predictions of the other version are.
        version: The other version.
        res: The model's resources.
    """
    stages = (Stage.PREDICTIONS, stage, Stage.LABELS, Stage.PERFORMANCE)
    scored, other, labels, assessed = (done_record(stage, ref, res) for stage in stages)
    if not (scored and other and labels and assessed and labels.data["mature"]):
        return False
    complete = labels.data.get("pending") == 0 == labels.data.get("later")
    return (
        (scored.data["version"], other.data["version"]) == (champion, version)
        and assessed.inputs.get(Stage.PREDICTIONS) == scored.digest
        and assessed.inputs.get(Stage.LABELS) == labels.digest
        and (labels.as_of >= ref.matured or complete)
    )


def _as_staged(challenger: Version, champion: Promotion, res: Resources) -> Reference:
    """Return the champion itself as the reference, with the burden that the challenger had when it was staged against it.

    Against another champion, after a rollback, it is a change.
    """
    evidence = staged_as(challenger.version, champion, res.ledger.promotions())
    burden: Burden = "refresh" if evidence.get("burden") == "refresh" else "change"
    different = tuple(evidence.get("differences", ()))
    version = res.registry.cached_version(champion.version)
    return Reference(champion, version, f"champion {champion.version}", burden, different)


def judge_in_shadow(
    challenger: Version, champion: Promotion, refs: list[PartitionRef], res: Resources
) -> tuple[GateDecision, Comparison]:
    """Return the gate's decision on the labelled rows of these partitions, without rows from either training window.

    Args:
        challenger: The version that scored the partitions in shadow mode.
        champion: The row that made the champion.
        refs: The matured partitions, oldest first.
        res: The model's resources.
    """
    rows = concatenate([labelled_rows(ref.key, refs[-1].matured, res) for ref in refs], res.config.features.all)
    start = max(refs[0].start, challenger.window_end, champion.window_end)
    rows = rows[rows[res.config.time] >= start].reset_index(drop=True)
    note = f"in shadow mode, {refs[0].key} to {refs[-1].key}"
    comparison = compare(challenger, _as_staged(challenger, champion, res), rows, (start, refs[-1].end), res, note)
    differing = count_differing([res.lake.record(Stage.SHADOW, ref.key) for ref in refs])
    decision = judge_shadow(comparison, len(refs), res.config, differing)
    log_verdicts(decision.verdicts)
    return decision, comparison
