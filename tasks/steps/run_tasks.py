"""Take partitions through their steps, in order, doing only what is not fresh."""

from collections.abc import Mapping
from datetime import UTC, datetime

from tasks.contracts import PartitionRef, PartitionRun, Record, Stage, Window
from tasks.errors import SourceUnavailable
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.source.extent import available, fingerprint
from tasks.steps.order import newest_ref
from tasks.steps.run import run_steps, with_labels
from tasks.steps.step import Step, advance


def due_partitions(res: Resources, partition: str | None, as_of: datetime | None) -> list[PartitionRef]:
    """The partition that was named, or every one of the source whose as-of is over, oldest first.

    Raises:
        NoPartition: the name is none of the model's calendar.
        MissingSource: the source has nothing for the partition that was named.
    """
    if partition:
        ref = res.ref(partition, as_of)
        fingerprint(res.model, ref)
        return [ref]
    until = as_of or datetime.now(UTC)
    return [ref for key in available(res.model) if (ref := res.ref(key)).as_of <= until]


@as_task("{step.verb} {ref.key}")
def advance_partition(
    step: Step, ref: PartitionRef, res: Resources, again: bool = False, inputs: Mapping[str, str] | None = None
) -> Record:
    """Run one step of one partition, and write what came of it into the run's log."""
    record = advance(step, ref, res, again, inputs)
    log = run_log()
    if record.status == "blocked":
        log.error("%s is blocked at %s: %s", ref, step.stage, record.reason)
    else:
        log.info("%s %s: %d rows in %.2f s", step.verb, ref, record.rows, record.run.seconds if record.run else 0)
    return record


def run_partition(ref: PartitionRef, steps: tuple[Step, ...], res: Resources) -> PartitionRun:
    """Take one partition through some steps, up to where it is blocked; each that has something to do is a task of its own.

    A step that must wait holds up only what is made from it: labels are collected before there is a champion. Waits
    for another process that is at work on the partition. A source that does not answer for it holds up no other partition.
    """
    log = run_log()
    try:
        return run_steps(
            ref, steps, res, advance_partition, waiting_for=lambda other: log.info("%s; waiting for it", other)
        )
    except SourceUnavailable as error:
        log.error("%s: %s", ref, error)
        return PartitionRun(ref.key, (("read", "failed", str(error)),), newly_blocked=str(error))


def maturing_partitions(res: Resources, partition: str | None, as_of: datetime | None) -> list[PartitionRef]:
    """The partition that was named, or every ingested one, as of the newest one's moment: labels come late.

    Raises:
        NoPartition: the name is none of the model's calendar.
        MissingPartition: nothing was ever validated.
    """
    if partition:
        return [res.ref(partition, as_of)]
    moment = as_of or newest_ref(res).as_of
    keys = res.lake.keys(Stage.RAW)
    return [res.ref(key, moment) for key in keys if res.ref(key).as_of <= moment]


def collect_window(window: Window, res: Resources) -> Window:
    """Bring the labels of a window up to its moment; partitions whose labels are blocked are passed over."""
    return with_labels(window, res, lambda step, ref: advance_partition(step, ref, res))
