"""Make an earlier champion the champion again, with a reason.

    champion v4 ── load and query v2 in a new process ──> champion v2

Started by hand:

    prefect deployment run rollback/manual -p model=flights -p by=ann -p reason="v4 scores weekends badly"
"""

from prefect import flow, runtime
from prefect.states import State

from configs.choices import AsOf, ModelName, NonEmpty, PersonName, VersionNumber
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.promotion import roll_back
from tasks.orchestration.run_names import name_by_version
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.timeouts import seconds_of
from tasks.reports.artifacts import publish_promotion
from tasks.resources import open_resources


@flow(
    name="rollback", timeout_seconds=seconds_of("rollback"), flow_run_name=name_by_version, on_failure=[tag_failed_run]
)
def rollback(
    model: ModelName,
    by: PersonName,
    reason: NonEmpty,
    version: VersionNumber | None = None,
    as_of: AsOf | None = None,
) -> State:
    """Make an earlier champion the champion again, after a new process has loaded and queried it.

    The present champion is then excluded from automatic promotion. A person may promote it again with `promote`.

    Args:
        model: Name of the model; a folder in `configs/`.
        by: Who is responsible. The name is not checked, unless the server requires authentication.
        reason: Why. It is recorded in the ledger.
        version: Number of an earlier champion. By default, the previous champion.
        as_of: As-of time from which it takes effect. By default, that of the newest partition.

    Raises:
        UnknownVersion: There is no earlier champion, or the version never was champion.
        GateRefused: A new process could not load it, or its predictions were not valid.
        StaleDecision: Another promotion came first.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    deliver(res)
    promotion = roll_back(version, by, reason, as_of, res)
    return end_run(*publish_promotion(res, promotion))
