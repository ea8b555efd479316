"""Return to an earlier champion, in one run and with a reason.

    champion v4 ── load and query v2 in a fresh process ──> champion v2 again

Started by hand:

    prefect deployment run rollback/manual -p model=flights -p by=ann -p reason="v4 scores weekends badly"
"""

from datetime import datetime

from prefect import flow, runtime
from prefect.states import Completed, State

from configs.choices import ModelName, NonEmpty, VersionNumber
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.promotion import roll_back
from tasks.reports.artifacts import publish_promotion
from tasks.resources import open_resources


@flow(name="rollback", flow_run_name="{model}: {reason}")
def rollback(
    model: ModelName,
    by: NonEmpty,
    reason: NonEmpty,
    version: VersionNumber | None = None,
    as_of: datetime | None = None,
) -> State:
    """Make an earlier champion the champion again, after a fresh process has loaded and queried it.

    The version that is rolled back from is not promoted again by automation; a person may, by `promote`.

    Args:
        model: Name of the model; a folder in `configs/`.
        by: Who takes responsibility. A name that is not checked, unless the server asks for authentication.
        reason: Why; it stands in the ledger.
        version: An earlier champion; by default the one before.
        as_of: The moment it takes effect; by default the newest partition's.

    Raises:
        UnknownVersion: there is no earlier champion, or that version never was one.
        GateRefused: a fresh process could not load it, or got unsound answers from it.
        StaleDecision: somebody else promoted meanwhile.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    deliver(res)
    promotion = roll_back(version, by, reason, as_of, res)
    return Completed(message=publish_promotion(res, promotion))
