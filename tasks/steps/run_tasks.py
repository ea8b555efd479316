"""Run the steps of partitions as tasks of a flow run."""

from collections.abc import Mapping
from datetime import UTC, datetime

from configs.errors import ConfigError
from tasks.contracts import PartitionRef, PartitionRun, Record, Stage, Window
from tasks.errors import SourceUnavailable
from tasks.orchestration.prefect_tasks import as_task, interruptible, is_simulation, run_log, with_retries
from tasks.resources import Resources
from tasks.source.extent import available_partitions, fingerprint, why_no_partition
from tasks.steps.order import newest_ref
from tasks.steps.run import collect_labels, run_steps
from tasks.steps.step import Step, advance


@interruptible
def due_partitions(res: Resources, partition: str | None, as_of: datetime | None) -> list[PartitionRef]:
    """The named partition, or every partition of the source that is complete at `as_of` (default: now), oldest first.

    Raises:
        NoPartition: the name is not in the model's calendar.
        MissingSource: the source has no data for the named partition.
    """
    if partition:
        ref = res.ref(partition, as_of)
        with_retries(lambda: fingerprint(res.model, ref))
        return [ref]
    until, keys = as_of or datetime.now(UTC), with_retries(lambda: available_partitions(res.model))
    if not keys:
        run_log().warning("%s: %s", res.config.name, why_no_partition(res.model))
    return [ref for key in keys if (ref := res.ref(key)).complete <= until]


@as_task("{step.verb} {ref.key}", retried=True)
def advance_partition(
    step: Step, ref: PartitionRef, res: Resources, again: bool = False, inputs: Mapping[str, str] | None = None
) -> Record:
    """Run one step of one partition, and log the result in the run's log."""
    record = advance(step, ref, res, again, inputs)
    log, about = run_log(), {"partition": ref.key, "version": record.data.get("version")}
    if record.status == "blocked":
        log.error("%s is blocked at %s: %s", ref, step.stage, record.reason, extra=about)
    else:
        seconds = record.run.seconds if record.run else 0
        log.info("%s %s: %d rows in %.2f s", step.verb, ref, record.rows, seconds, extra=about)
    return record


def run_partition(ref: PartitionRef, steps: tuple[Step, ...], res: Resources) -> PartitionRun:
    """Run the steps of one partition that have work, each as a task.

    Waits if another process works on the partition. A source that does not answer is logged, and the partition counts as blocked.
    So the caller can go on with the next partition.
    """
    log = run_log()
    try:
        return with_retries(
            lambda: run_steps(
                ref, steps, res, advance_partition, waiting_for=lambda claim: log.info("%s; waiting for it", claim)
            )
        )
    except SourceUnavailable as error:
        log.error("%s: %s", ref, error, extra={"partition": ref.key})
        return PartitionRun(ref.key, (("read", "failed", str(error)),), newly_blocked=str(error))


def moment_of_assessment(res: Resources, partition: str | None, as_of: datetime | None) -> datetime:
    """The moment that an assessment is about: `as_of`, else when the labels of the named partition have matured.

    Without both, or if those have not matured yet, it is the newest moment at which the labels of a validated partition had matured.

    Raises:
        NoPartition: the name is not in the model's calendar.
        MissingPartition: no partition is validated.
        ConfigError: `as_of` is in the future.
    """
    now = datetime.now(UTC)
    if as_of and as_of > now and not is_simulation():
        raise ConfigError(f"as_of {as_of.isoformat()} is in the future: labels are known only until now")
    if partition and (ref := res.ref(partition, as_of)) and (ref.chosen or ref.matured <= now):
        return ref.chosen or ref.matured
    if as_of:
        return as_of
    refs = [res.ref(key) for key in res.lake.keys(Stage.VALID)]
    return max((ref.matured for ref in refs if ref.matured <= now), default=newest_ref(res).complete)


def maturing_partitions(res: Resources, partition: str | None, as_of: datetime) -> list[PartitionRef]:
    """The partitions whose labels may have matured: the named one, or every ingested one, with a common as-of.

    A named one whose labels mature only after `as_of` is as of its own moment, for which the steps wait.

    Raises:
        NoPartition: the name is not in the model's calendar.
    """
    if partition:
        ref = res.ref(partition)
        return [ref if ref.matured > datetime.now(UTC) else ref.at(as_of)]
    return [ref.at(as_of) for key in res.lake.keys(Stage.RAW) if (ref := res.ref(key)).matured <= as_of]


def collect_window(window: Window, res: Resources) -> Window:
    """Like `collect_labels`, with a task for each partition."""
    return collect_labels(window, res, lambda step, ref: advance_partition(step, ref, res))
