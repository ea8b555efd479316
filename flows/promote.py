"""Make a version champion by hand, on the evidence of a new comparison.

    version ── comparison with the champion on the newest holdout ──> gate ──> promotion

Started by hand:

    prefect deployment run promote/manual -p model=flights -p version=3 -p by=ann -p reason="reviewed with risk"
"""

from datetime import datetime
from typing import Annotated

from prefect import flow, runtime
from prefect.states import Completed, State
from pydantic import Field

from configs.choices import ModelName
from tasks.artifacts import publish_promotion
from tasks.evaluation import compare_versions
from tasks.promotion import judge_challenger, promote_version
from tasks.resources import open_resources
from tasks.window import locate_window


@flow(name="promote", flow_run_name="{model} v{version}")
def promote(
    model: ModelName,
    version: Annotated[str, Field(description="Number of a registered version.")],
    by: Annotated[str, Field(min_length=1, description="Who takes responsibility. A name that is not checked.")],
    reason: Annotated[str, Field(min_length=1, description="Why; it stands in the ledger.")],
    as_of: Annotated[
        datetime | None, Field(description="The moment it takes effect; by default the newest partition's.")
    ] = None,
) -> State:
    """Judge a version once more on the newest evidence, and promote it if the gate passes it.

    Raises:
        GateRefused: it did not pass; the message has every rule's numbers.
        StaleDecision: somebody else promoted meanwhile.
        UnknownVersion: MLflow has no such version.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    window = locate_window(res, as_of)
    champion, candidate = res.ledger.champion(), res.registry.version(version)
    comparison = compare_versions(candidate, champion, window, res)
    decision = judge_challenger(comparison, candidate, res)
    promotion = promote_version(candidate, decision, comparison, champion, window.as_of, reason, res, by)
    return Completed(message=publish_promotion(res, promotion))
