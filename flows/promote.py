"""Make a version champion by hand, on the evidence of a new comparison.

    version ── comparison with the champion on the newest holdout ──> gate ──> promotion

Started by hand:

    prefect deployment run promote/manual -p model=flights -p version=3 -p by=ann -p reason="reviewed with risk"
"""

from datetime import datetime

from prefect import flow, runtime
from prefect.states import Completed, State

from configs.choices import ModelName, NonEmpty
from tasks.artifacts import publish_promotion
from tasks.evaluation import compare_versions
from tasks.promotion import judge_challenger, promote_version
from tasks.resources import open_resources
from tasks.walk import collect_window
from tasks.window import locate_window


@flow(name="promote", flow_run_name="{model} v{version}")
def promote(
    model: ModelName,
    version: str,
    by: NonEmpty,
    reason: NonEmpty,
    as_of: datetime | None = None,
) -> State:
    """Judge a version once more on the newest evidence, and promote it if the gate passes it.

    A version that was refitted on its own holdout is judged by the fit that had not seen it.

    Args:
        model: Name of the model; a folder in `configs/`.
        version: Number of a registered version.
        by: Who takes responsibility. A name that is not checked.
        reason: Why; it stands in the ledger.
        as_of: The moment it takes effect; by default the newest partition's.

    Raises:
        GateRefused: it did not pass; the message has every rule's numbers.
        StaleDecision: somebody else promoted meanwhile.
        UnknownVersion: MLflow has no such version.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    window = collect_window(locate_window(res, as_of), res)
    champion, candidate = res.ledger.champion(), res.registry.version(version)
    judged = res.registry.version(candidate.judged_as or version)
    comparison = compare_versions(judged, champion, window, res)
    decision = judge_challenger(comparison, judged, res)
    promotion = promote_version(candidate, decision, comparison, champion, window.as_of, reason, res, by)
    return Completed(message=publish_promotion(res, promotion))
