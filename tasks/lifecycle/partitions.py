"""Process and assess one partition. The flows and a replay call these same functions.

process   ingest ─ validate ─ sketch ─ score ─ estimate ─ watch ──> drift facts
assess    collect ─ assess ──> decay facts ──> verdicts on promotions, the challenger's shadow, a training that is due
"""

from datetime import datetime

from tasks.contracts import Hindsight, PartitionRef, PartitionRun
from tasks.lifecycle.facts import assess_facts, process_facts
from tasks.lifecycle.hindsight import judge_promotions
from tasks.lifecycle.metric_series import copy_performance
from tasks.lifecycle.partition_events import (
    assessed_payload,
    blocked_payload,
    has_new_outputs,
    is_newly_blocked,
    processed_payload,
)
from tasks.lifecycle.promotion import advance_challenger
from tasks.lifecycle.retraining import emit_due_fact
from tasks.lifecycle.staleness import update_staleness
from tasks.orchestration.events import ASSESSED, BLOCKED, PROCESSED, emit_new, emit_partition
from tasks.resources import Resources
from tasks.steps.order import OUTCOMES, PROCESS
from tasks.steps.run_tasks import run_partition
from tasks.steps.step import Step


def process_partition(ref: PartitionRef, res: Resources, steps: tuple[Step, ...] = PROCESS) -> PartitionRun:
    """Score a partition and check it for drift. Record and emit the resulting facts, then that it was processed or blocked.

    Args:
        ref: The partition.
        res: The model's resources.
        steps: The steps of `PROCESS` to run. A replay leaves out those whose outputs it reads from production.
    """
    run = run_partition(ref, steps, res)
    emit_new(process_facts(ref, res), res)
    if is_newly_blocked(run):
        emit_partition(BLOCKED, ref, blocked_payload(run))
    elif has_new_outputs(run, ref, res):
        emit_partition(PROCESSED, ref, processed_payload(ref, res))
    return run


def assess_partition(ref: PartitionRef, res: Resources, unchanged: bool = True) -> PartitionRun:
    """Collect a partition's labels and measure the loss of its predictions. Record and emit the facts, then that it was assessed.

    Args:
        ref: The partition.
        res: The model's resources.
        unchanged: Whether to derive the facts even if no step had work to do. Production does, since an earlier run may have
            died before it recorded them. A replay does not need it.
    """
    run = run_partition(ref, OUTCOMES, res)
    if unchanged or run.had_work:
        emit_new(assess_facts(ref, res), res)
    if is_newly_blocked(run):
        emit_partition(BLOCKED, ref, blocked_payload(run))
    elif "assess" in run.steps_run:
        emit_partition(ASSESSED, ref, assessed_payload(ref, res))
    return run


def follow_outcomes(res: Resources, as_of: datetime) -> list[Hindsight]:
    """After new labels: measure past promotions and staleness, advance a challenger in shadow mode, record whether a training is due.

    At the end, MLflow gets the performance of the partitions.

    Args:
        res: The model's resources.
        as_of: The moment of the assessment. Partitions with a later as-of are not used, even if they were processed before.

    Returns:
        The new verdicts on promotions.
    """
    verdicts = judge_promotions(res, as_of)
    advance_challenger(res, as_of)
    if res.config.retraining.signals.expected_gain and res.config.retraining.cost:
        update_staleness(res, as_of)
    emit_due_fact(res, as_of)
    copy_performance(res)
    return verdicts
