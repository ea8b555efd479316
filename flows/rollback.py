"""Return to an earlier champion, in one run and with a reason.

    champion v4 ── load and score ──> champion v2 again

Started by hand:

    prefect deployment run rollback/manual -p model=flights -p by=ann -p reason="v4 scores weekends badly"
"""

from datetime import datetime
from typing import Annotated

from prefect import flow, runtime
from prefect.states import Completed, State
from pydantic import Field

from configs.choices import ModelName
from tasks.artifacts import publish_promotion
from tasks.promotion import roll_back
from tasks.resources import open_resources


@flow(name="rollback", flow_run_name="{model}: {reason}")
def rollback(
    model: ModelName,
    by: Annotated[str, Field(min_length=1, description="Who takes responsibility. A name that is not checked.")],
    reason: Annotated[str, Field(min_length=1, description="Why; it stands in the ledger.")],
    version: Annotated[str | None, Field(description="An earlier champion; by default the one before.")] = None,
    as_of: Annotated[
        datetime | None, Field(description="The moment it takes effect; by default the newest partition's.")
    ] = None,
) -> State:
    """Make an earlier champion the champion again, after it was loaded and has scored real rows.

    Raises:
        UnknownVersion: there is no earlier champion, or that version never was one.
        StaleDecision: somebody else promoted meanwhile.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    promotion = roll_back(version, by, reason, as_of, res)
    return Completed(message=publish_promotion(res, promotion))
