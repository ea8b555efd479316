"""The steps of a partition: their order, their prerequisites, and which of them a model needs.

ingest ─ validate ─ sketch ────────────┐
   │        ├───── score ─ estimate ─ watch; in shadow mode: shadow (challenger), former (previous champion)
   └────────┴── collect ─── assess
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Stage, StageChoice
from tasks.errors import MissingPartition
from tasks.resources import Resources
from tasks.steps.assess import ASSESS
from tasks.steps.collect import COLLECT
from tasks.steps.estimate import ESTIMATE
from tasks.steps.ingest import INGEST
from tasks.steps.score import PREVIOUS, SCORE, SHADOW
from tasks.steps.sketch import SKETCH
from tasks.steps.step import Step
from tasks.steps.validate import VALIDATE
from tasks.steps.watch import WATCH

PROCESS = (INGEST, VALIDATE, SKETCH, SCORE, ESTIMATE, WATCH, SHADOW, PREVIOUS)
OUTCOMES = (COLLECT, ASSESS)
ALL = PROCESS + OUTCOMES
SHADOW_STEPS = (SHADOW, PREVIOUS)
"""Predictions in shadow mode, by the challenger and by the previous champion. Most partitions have neither."""
OPTIONAL = (ESTIMATE, *SHADOW_STEPS)
"""Steps on which no other step depends. If one fails, the partition's other steps still run."""
INDEPENDENT = (INGEST, VALIDATE, SKETCH, COLLECT)
"""Steps that read their own partition only. The others also read earlier partitions or the champion's training window."""
STEPS_BY_CHOICE: Mapping[StageChoice, tuple[Step, ...]] = {
    "ingest": (INGEST,),
    "validate": (VALIDATE, SKETCH),
    "score": (SCORE, ESTIMATE, *SHADOW_STEPS),
    "watch": (WATCH,),
    "assess": OUTCOMES,
}
"""The steps behind each choice in a backfill's form."""
PREREQUISITES: Mapping[Stage, tuple[Stage, ...]] = {
    Stage.RAW: (),
    Stage.VALID: (Stage.RAW,),
    Stage.SKETCHES: (Stage.VALID,),
    Stage.PREDICTIONS: (Stage.VALID,),
    Stage.ESTIMATES: (Stage.PREDICTIONS,),
    Stage.MONITORING: (Stage.PREDICTIONS, Stage.SKETCHES),
    Stage.SHADOW: (Stage.VALID,),
    Stage.FORMER: (Stage.VALID,),
    Stage.LABELS: (Stage.RAW,),
    Stage.PERFORMANCE: (Stage.PREDICTIONS, Stage.LABELS, Stage.ESTIMATES),
}
"""The outputs of the same partition that each output is computed from."""


def steps_of(config: ModelConfig) -> tuple[Step, ...]:
    """The steps of a model's partitions, in order. The shadow steps are left out if model.yaml switches them off."""
    switched_off = [
        step
        for step, count in (
            (SHADOW, config.promotion.shadow.partitions),
            (PREVIOUS, config.retraining.hindsight.partitions),
        )
        if not count
    ]
    return tuple(step for step in ALL if step not in switched_off)


def newest_moment(res: Resources) -> datetime:
    """The as-of of a decision that is made now: when the newest validated partition was complete, but not before the champion.

    Raises:
        MissingPartition: no partition is validated.
    """
    champion, newest = res.ledger.champion(), newest_ref(res)
    return max(newest.complete, champion.as_of) if champion else newest.complete


def newest_ref(res: Resources, as_of: datetime | None = None) -> PartitionRef:
    """The newest validated partition that was complete at `as_of`, by default now. The as-of of the ref is its own.

    After a backfill the lake may have partitions from after `as_of`. No decision as of that moment may use them.

    Raises:
        MissingPartition: no such partition is validated.
    """
    moment = as_of or datetime.now(UTC)
    for key in reversed(res.lake.keys(Stage.VALID)):
        record, ref = res.lake.record(Stage.VALID, key), res.ref(key)
        if record and record.status == "done" and ref.complete <= moment:
            return ref
    when = f" as of {as_of.isoformat()}" if as_of else " yet"
    raise MissingPartition(f"{res.config.name}: no partition is validated{when}; run `backfill` first")
