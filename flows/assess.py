"""Collect labels and measure the performance of the predictions.

    labels.sql ─collect (mature, late, corrected)→ labels ─┐
                                 predictions, estimates ───┴─assess→ performance ─→ decay fact ─→ event
                         challenger in shadow mode ──→ good enough? → promotion, or a request for approval
                  previous champion in shadow mode ──→ measured effect of the promotion → verdict, rollback if it hurt
    performance, decisions ─send→ the places that `publish` names; nothing depends on it

Started by its schedule, or by hand:

    prefect deployment run assess/flights -p partition=2013-05
"""

from prefect import flow, runtime
from prefect.states import State

from configs.choices import AsOf, ModelName, PartitionKey
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.partitions import assess_partition, follow_outcomes
from tasks.lifecycle.retraining import follow_up
from tasks.lifecycle.sending import send_outputs
from tasks.orchestration.run_names import name_by_partition
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.timeouts import seconds_of
from tasks.reports.artifacts import publish_assess, publish_hindsights, publish_model
from tasks.resources import open_resources
from tasks.steps.run_tasks import maturing_partitions, moment_of_assessment


@flow(name="assess", timeout_seconds=seconds_of("assess"), flow_run_name=name_by_partition, on_failure=[tag_failed_run])
def assess(
    model: ModelName,
    partition: PartitionKey | None = None,
    as_of: AsOf | None = None,
) -> State:
    """Collect and validate the labels of one partition, or of all, and compute the performance from them.

    Args:
        model: Name of the model; a folder in `configs/`.
        partition: Such as 2013-05. By default, every partition with labels that are outstanding or have changed.
        as_of: Use labels known at or before this time, and no later partitions. By default, when the labels of the named partition
            have matured (its end plus `target.delay`), else the newest such moment until now.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    deliver(res)
    follow_up(res)
    moment = moment_of_assessment(res, partition, as_of)
    runs = [assess_partition(ref, res) for ref in maturing_partitions(res, partition, moment)]
    publish_hindsights(res, follow_outcomes(res, moment))
    line, tags = publish_assess(res, runs)
    sending = send_outputs(res)
    publish_model(res)
    deliver(res)
    return end_run(line + sending.message, [*tags, *sending.tags], failed=any(r.newly_blocked for r in runs))
