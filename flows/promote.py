"""Promote a version by hand, on current evidence: approve a challenger, or overrule the automation.

    version ── comparison with the champion on the newest labels ──> gate ──> promotion
            └─ refuse ──> refused, the champion stays
    alias moved by hand ── adopt: the same ──> promotion
                        └─ restore ──> alias points to the champion again

Started by hand:

    prefect deployment run promote/manual -p model=flights -p version=3 -p by=ann -p reason="reviewed with risk"
"""

from typing import Literal

from prefect import flow, runtime
from prefect.states import State

from configs.choices import AsOf, ModelName, NonEmpty, PersonName, VersionNumber
from tasks.ledger.history import refuse_stale_approval
from tasks.lifecycle.manual_approval import judge_again, select_version
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.promotion import promote_version, refuse_challenger, restore_alias
from tasks.orchestration.run_names import name_by_action
from tasks.orchestration.run_tags import end_run, tag_failed_run
from tasks.orchestration.timeouts import seconds_of
from tasks.reports.artifacts import publish_promotion
from tasks.resources import open_resources


@flow(name="promote", timeout_seconds=seconds_of("promote"), flow_run_name=name_by_action, on_failure=[tag_failed_run])
def promote(
    model: ModelName,
    by: PersonName,
    reason: NonEmpty,
    version: VersionNumber | None = None,
    action: Literal["promote", "refuse", "adopt", "restore"] = "promote",
    against: VersionNumber | None = None,
    as_of: AsOf | None = None,
) -> State:
    """Evaluate a version on the newest labels, and promote it if it passes the gate.

    A challenger with shadow predictions is evaluated on them. A version that was refitted on its own holdout is evaluated
    by its fit without the holdout.

    Args:
        model: Name of the model; a folder in `configs/`.
        by: Who is responsible. The name is not checked, unless the server requires authentication.
        reason: Why. It is recorded in the ledger.
        version: Number of a registered version. By default, the challenger, or with `adopt` the version of the alias.
        action: `promote` a version, `refuse` the challenger, `adopt` the version to which the alias was moved by hand, or
            `restore` the alias.
        against: The version that you expect to be champion. If another one is champion, nothing is changed.
        as_of: As-of time from which it takes effect. By default, that of the newest partition.

    Raises:
        GateRefused: The version did not pass. The message has every rule's numbers.
        StaleDecision: Another promotion came first, or `against` is no longer champion.
        UnknownVersion: MLflow has no such version.
    """
    res = open_resources(model, runtime.flow_run.get_id() or "")
    deliver(res)
    champion = res.ledger.champion()
    refuse_stale_approval(against, champion, model)
    if action == "restore":
        return end_run(*publish_promotion(res, restore_alias(by, reason, res)))
    target = select_version(version, action, res)
    if action == "refuse":
        return end_run(*publish_promotion(res, refuse_challenger(target, by, reason, res)))
    judgement = judge_again(target, champion, as_of, res)
    promotion = promote_version(
        target, judgement.decision, judgement.comparison, champion, judgement.as_of, reason, res, by, action
    )
    return end_run(*publish_promotion(res, promotion))
