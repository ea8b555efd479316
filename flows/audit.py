"""Report which version was champion at a time, why, who approved it and on what evidence, and verify the records.

    ledger ── champion at T, its path and evidence ──> page
       └── hash chain = hashes in MLflow = events? ──> differences

Started by hand, or as `make audit MODEL=flights AT=2013-06-15`:

    prefect deployment run audit/manual -p model=flights -p at=2013-06-15T00:00:00-04:00
"""

from prefect import flow, runtime
from prefect.states import State

from configs.choices import AsOf, ModelName
from tasks.lifecycle.audit import audit as look_up
from tasks.orchestration.events import known_hashes
from tasks.orchestration.run_names import name_by_time
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.timeouts import seconds_of
from tasks.reports.artifacts import publish_audit
from tasks.resources import open_resources


@flow(name="audit", timeout_seconds=seconds_of("audit"), flow_run_name=name_by_time, on_failure=[tag_failed_run])
def audit(
    model: ModelName,
    at: AsOf | None = None,
) -> State:
    """Look up the champion at a time, and compare ledger, MLflow and events.

    Args:
        model: Name of the model; a folder in `configs/`.
        at: As-of time to look up. By default, now.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    report = look_up(res, at, known_hashes(model))
    return end_run(publish_audit(res, report), failed=bool(report.problems))
