"""Make a version champion by hand, on the evidence of now: the approval of a challenger, or a decision against the automation.

    version ── comparison with the champion on the newest evidence ──> gate ──> promotion
            └─ refuse ──> refused, the champion stays
    alias moved by hand ── adopt: the same ──> promotion
                        └─ restore ──> alias back at the champion

Started by hand:

    prefect deployment run promote/manual -p model=flights -p version=3 -p by=ann -p reason="reviewed with risk"
"""

from datetime import datetime
from typing import Literal

from prefect import flow, runtime
from prefect.states import Completed, State

from configs.choices import ModelName, NonEmpty, VersionNumber
from tasks.ledger.history import refuse_stale_approval
from tasks.lifecycle.manual_approval import judge_again, version_meant
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.promotion import promote_version, refuse_challenger, restore_alias
from tasks.reports.artifacts import publish_promotion
from tasks.resources import open_resources


@flow(name="promote", flow_run_name="{model} {action}")
def promote(
    model: ModelName,
    by: NonEmpty,
    reason: NonEmpty,
    version: VersionNumber | None = None,
    action: Literal["promote", "refuse", "adopt", "restore"] = "promote",
    against: VersionNumber | None = None,
    as_of: datetime | None = None,
) -> State:
    """Judge a version once more on the newest evidence, and promote it if the gate passes it.

    A challenger is judged on what it said in the champion's shadow, where it has been there. A
    version that was refitted on its own holdout is judged by the fit that had not seen it.

    Args:
        model: Name of the model; a folder in `configs/`.
        by: Who takes responsibility. A name that is not checked, unless the server asks for authentication.
        reason: Why; it stands in the ledger.
        version: Number of a registered version; by default the challenger, or with `adopt` the alias's.
        action: promote a version; refuse the challenger that waits; adopt the version that the alias was moved to by hand; or
            restore the alias.
        against: The version that was champion when you looked; if it is champion no longer, nothing is done.
        as_of: The moment it takes effect; by default the newest partition's.

    Raises:
        GateRefused: it did not pass; the message has every rule's numbers.
        StaleDecision: somebody else promoted meanwhile, or `against` is champion no longer.
        UnknownVersion: MLflow has no such version.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    deliver(res)
    champion = res.ledger.champion()
    refuse_stale_approval(against, champion, model)
    if action == "restore":
        return Completed(message=publish_promotion(res, restore_alias(by, reason, res)))
    meant = version_meant(version, action, res)
    if action == "refuse":
        return Completed(message=publish_promotion(res, refuse_challenger(meant, by, reason, res)))
    judgement = judge_again(meant, champion, as_of, res)
    promotion = promote_version(
        meant, judgement.decision, judgement.comparison, champion, judgement.as_of, reason, res, by, action
    )
    return Completed(message=publish_promotion(res, promotion))
