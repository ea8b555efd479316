"""What `process` and `assess` do to a partition. Production and a replay call these same functions.

process   ingest ─ validate ─ sketch ─ score ─ estimate ─ watch ──> drift facts
assess    collect ─ assess ──> decay facts ──> verdicts on promotions, the challenger's shadow, a training that is due
"""

from tasks.contracts import Hindsight, PartitionRef, PartitionRun
from tasks.lifecycle.facts import assess_facts, process_facts
from tasks.lifecycle.hindsight import judge_promotions
from tasks.lifecycle.promotion import advance_challenger
from tasks.lifecycle.retraining import emit_due_fact
from tasks.orchestration.events import emit_new
from tasks.resources import Resources
from tasks.steps.order import OUTCOMES, PROCESS
from tasks.steps.run_tasks import run_partition
from tasks.steps.step import Step


def process_partition(ref: PartitionRef, res: Resources, steps: tuple[Step, ...] = PROCESS) -> PartitionRun:
    """Score a partition and check it for drift, and record the facts that follow.

    Args:
        ref: The partition.
        res: The model's resources.
        steps: The steps of `PROCESS` to run. A replay leaves out those whose outputs it reads from production.
    """
    done = run_partition(ref, steps, res)
    emit_new(process_facts(ref, res), res)
    return done


def assess_partition(ref: PartitionRef, res: Resources, unchanged: bool = True) -> PartitionRun:
    """Collect a partition's labels and measure its predictions, and record the facts that follow.

    Args:
        ref: The partition.
        res: The model's resources.
        unchanged: Whether to look for facts though no step had work to do. Production does, since an earlier run may have
            died before it recorded them. A replay need not.
    """
    done = run_partition(ref, OUTCOMES, res)
    if unchanged or done.had_work:
        emit_new(assess_facts(ref, res), res)
    return done


def follow_outcomes(res: Resources) -> list[Hindsight]:
    """After labels came: judge past promotions, promote or refuse a challenger in shadow, record that a training is due.

    Returns:
        The new verdicts on promotions.
    """
    verdicts = judge_promotions(res)
    advance_challenger(res)
    emit_due_fact(res)
    return verdicts
