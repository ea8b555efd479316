"""The steps of a partition in order, what each comes after, and which of them a model needs.

ingest ─ validate ─ sketch ────────────┐
   │        ├───── score ─ estimate ─ watch, and in the shadow: shadow, former
   └────────┴── collect ─── assess
"""

from collections.abc import Mapping

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Stage, StageChoice
from tasks.errors import MissingPartition
from tasks.resources import Resources
from tasks.steps.assess import ASSESS
from tasks.steps.collect import COLLECT
from tasks.steps.estimate import ESTIMATE
from tasks.steps.ingest import INGEST
from tasks.steps.score import FORMER, SCORE, SHADOW
from tasks.steps.sketch import SKETCH
from tasks.steps.step import Step
from tasks.steps.validate import VALIDATE
from tasks.steps.watch import WATCH

PROCESS = (INGEST, VALIDATE, SKETCH, SCORE, ESTIMATE, WATCH, SHADOW, FORMER)
OUTCOMES = (COLLECT, ASSESS)
ALL = PROCESS + OUTCOMES
IN_SHADOW = (SHADOW, FORMER)
"""Steps that most partitions do not need."""
OPTIONAL = (ESTIMATE, *IN_SHADOW)
"""Steps that nothing waits for: where one fails, the partition goes on."""
INDEPENDENT = (INGEST, VALIDATE, SKETCH, COLLECT)
"""Steps that look at their own partition only. The others also look at earlier partitions, or at the champion's window."""
STEPS_BY_CHOICE: Mapping[StageChoice, tuple[Step, ...]] = {
    "ingest": (INGEST,),
    "validate": (VALIDATE, SKETCH),
    "score": (SCORE, ESTIMATE, *IN_SHADOW),
    "watch": (WATCH,),
    "assess": OUTCOMES,
}
"""What people choose, and the steps behind it."""
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
"""The stages of the same partition that each is made from."""


def steps_of(config: ModelConfig) -> tuple[Step, ...]:
    """Every step that partitions of a model go through; only some models have a challenger in the shadow, or look back."""
    left_out = [
        step
        for step, count in (
            (SHADOW, config.promotion.shadow.partitions),
            (FORMER, config.retraining.hindsight.partitions),
        )
        if not count
    ]
    return tuple(step for step in ALL if step not in left_out)


def newest_ref(res: Resources) -> PartitionRef:
    """The newest partition that was validated: its as-of is the default of a training.

    Raises:
        MissingPartition: there is none.
    """
    for key in reversed(res.lake.keys(Stage.VALID)):
        record = res.lake.record(Stage.VALID, key)
        if record and record.status == "done":
            return res.ref(key)
    raise MissingPartition(f"{res.config.name}: no partition was validated yet; run `backfill` first")
