"""Ingest and validate a new partition, score it with the champion, and check it for drift.

    source ─ingest→ raw ─validate→ valid (+ quarantine) ─score→ predictions ─estimate→ estimates
                                     ├─sketch→ sketches ─────────┴─watch→ monitoring ─→ drift fact ─→ event
                                     └─ challenger ─shadow→ shadow; previous champion ─former→ former
    predictions, quarantine ─send→ the places that `publish` names; nothing depends on it

Started by its schedule, or by hand:

    prefect deployment run process/flights -p partition=2013-05
"""

from prefect import flow, runtime
from prefect.states import State

from configs.choices import AsOf, ModelName, PartitionKey
from tasks.lifecycle.outbox import check_alias, deliver
from tasks.lifecycle.partitions import process_partition
from tasks.lifecycle.retraining import follow_up
from tasks.lifecycle.sending import send_outputs
from tasks.orchestration.run_names import name_by_partition
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.timeouts import seconds_of
from tasks.reports.artifacts import publish_model, publish_process
from tasks.resources import open_resources
from tasks.steps.run_tasks import due_partitions


@flow(
    name="process", timeout_seconds=seconds_of("process"), flow_run_name=name_by_partition, on_failure=[tag_failed_run]
)
def process(
    model: ModelName,
    partition: PartitionKey | None = None,
    as_of: AsOf | None = None,
) -> State:
    """Ingest, validate, score and check one partition for drift, or every due partition that is not fresh.

    A blocked partition is reported and skipped. It is tried again when its input has changed, or by `backfill`
    with `mode=failed`. A fact without a decision is sent again. Without any due partition the run has the tag `warning`.

    Args:
        model: Name of the model; a folder in `configs/`.
        partition: Such as 2013-05. By default, every due partition in order.
        as_of: As-of time of the run. By default, when the partition is complete: its end plus `partition.grace`.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    deliver(res)
    check_alias(res)
    follow_up(res)
    runs = [process_partition(ref, res) for ref in due_partitions(res, partition, as_of)]
    line, tags = publish_process(res, runs)
    sending = send_outputs(res)
    if not runs or any(r.steps_run or r.newly_blocked for r in runs) or sending.had_work:
        publish_model(res)
    deliver(res)
    return end_run(line + sending.message, [*tags, *sending.tags], failed=any(r.newly_blocked for r in runs))
