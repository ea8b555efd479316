"""Say which version was champion at a moment, why, who approved it and on what evidence, and check the record.

    ledger ── champion at T, its path and evidence ──> page
       └── hash chain = marks in MLflow = events? ──> what does not agree

Started by hand, or as `make audit MODEL=flights AT=2013-06-15`:

    prefect deployment run audit/manual -p model=flights -p at=2013-06-15T00:00:00-04:00
"""

from datetime import datetime

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from configs.choices import ModelName
from tasks.lifecycle.audit import audit as look_up
from tasks.orchestration.events import known_hashes
from tasks.orchestration.run_names import name_by_time
from tasks.reports.artifacts import publish_audit
from tasks.resources import open_resources


@flow(name="audit", flow_run_name=name_by_time)
def audit(
    model: ModelName,
    at: datetime | None = None,
) -> State:
    """Look a moment up in the ledger, and hold ledger, MLflow and events against each other.

    Args:
        model: Name of the model; a folder in `configs/`.
        at: The moment, in as-of time; by default now.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    found = look_up(res, at, known_hashes(model))
    line = publish_audit(res, found)
    return Failed(message=line) if found.problems else Completed(message=line)
