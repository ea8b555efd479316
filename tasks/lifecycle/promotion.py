"""Stage changes of a version, each a row of the ledger: candidate -> challenger -> champion.

`tasks/lifecycle/gate.py` decides, this module applies the decision. If a run dies between two rows, the next run continues from
the state of the ledger.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, Literal

from tasks.contracts import AUTOMATION, Comparison, GateDecision, Promotion, Stage, Training, Version
from tasks.errors import GateRefused, UnknownVersion
from tasks.ledger.history import predecessor, promotion_exclusion, was_proposed, was_requested
from tasks.ledger.promotions import stage_of
from tasks.lifecycle.evidence import decision_evidence
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.shadow import judge_in_shadow, matured_shadow
from tasks.models.features import predict
from tasks.models.fingerprint import model_digest, same_scheme
from tasks.orchestration.ledger_rows import append_row
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import LiveResources, Resources
from tasks.steps.order import newest_ref
from tasks.steps.periods import REFERENCES
from tasks.training.evaluation import query
from tasks.training.periods import reference_periods


@as_task("stage or refuse v{training.version}")
def apply_gate_decision(
    training: Training, champion: Promotion | None, reason: str, res: Resources, refresh_follows: bool = False
) -> Promotion:
    """Record the gate's decision on a training: the version becomes challenger or is refused. An earlier challenger is retired.

    Args:
        refresh_follows: Whether a refresh is judged next if the version is refused. Then the refusal is not the training's outcome.
    """
    challenger, comparison = training.challenger, training.comparison
    assert challenger
    assert comparison
    evidence, moment = decision_evidence(training.decision, comparison), training.window.as_of
    version = training.final or challenger
    if version.version != challenger.version:
        append_row("retire", challenger, champion, moment, f"refitted as version {version.version}", {}, res)
    if not training.decision.passed:
        evidence |= {"refresh_follows": True} if refresh_follows else {}
        return refuse(version, champion, moment, "; ".join(training.decision.reasons), evidence, res)
    evidence |= {REFERENCES: [asdict(period) for period in reference_periods(challenger, training.window, res)]}
    return stage(version, champion, moment, reason, evidence, res)


def stage(
    version: Version,
    champion: Promotion | None,
    as_of: datetime,
    reason: str,
    evidence: dict[str, Any],
    res: Resources,
) -> Promotion:
    """Make a version that passed the gate the model's challenger, and load it into the local cache."""
    earlier = res.ledger.challenger()
    if earlier and earlier.version != version.version:
        retired = res.registry.version(earlier.version)
        append_row("retire", retired, champion, as_of, f"superseded by version {version.version}", {}, res)
    row = append_row("stage", version, champion, as_of, reason, evidence, res)
    for number in filter(None, (version.version, version.judged_as)):
        res.registry.cached_version(number)  # cached locally, so that monitoring works while MLflow is down
        res.load(number)
    deliver(res)
    return row


def refuse(
    version: Version,
    champion: Promotion | None,
    as_of: datetime,
    reason: str,
    evidence: dict[str, Any],
    res: Resources,
    by: str = AUTOMATION,
) -> Promotion:
    """Record that a version was refused. With the gate's verdicts as evidence, it counts as a test against the champion."""
    row = append_row("refuse", version, champion, as_of, reason, evidence, res, by)
    deliver(res)
    return row


@as_task("advance the challenger")
def advance_challenger(res: Resources, as_of: datetime | None = None) -> Promotion | None:
    """Promote or refuse the challenger, or request a person's approval, as far as model.yaml and its shadow test allow it.

    The shadow test needs `promotion.shadow.partitions` partitions that the challenger scored in shadow mode, whose labels have matured
    by `as_of` (None: no limit). A stage change that a killed run left incomplete is completed.

    Returns:
        The new row of the ledger, None if there is none.
    """
    staged, champion = res.ledger.challenger(), res.ledger.champion()
    if staged is None:
        return None
    version = res.registry.version(staged.version)
    if exclusion := promotion_exclusion(version.version, res.ledger.promotions(), partial(_digest_like, version, res)):
        return refuse(version, champion, staged.as_of, exclusion, {}, res)
    if res.config.promotion.approval and was_requested(version.version, champion, res.ledger.promotions()):
        return None  # a person decides, and `promote` judges again
    needed = res.config.promotion.shadow.partitions if champion else 0
    if needed == 0:
        if staged.against != (champion.sequence if champion else 0):
            reason = f"it was judged against version {staged.previous or 'none'}, which is no longer champion; train or `promote` again"
            return refuse(version, champion, staged.as_of, reason, {}, res)
        return _promote_or_request(
            version, champion, staged.as_of, staged.reason, _without_references(staged.evidence), res
        )
    assert champion
    matured = matured_shadow(staged, champion, res, as_of)
    if len(matured) < needed:
        text, about = "challenger v%s: %d of %d shadow partitions have matured", {"version": staged.version}
        run_log().info(text, staged.version, len(matured), needed, extra=about)
        return None
    decision, comparison = judge_in_shadow(version, champion, matured, res)
    evidence, moment = decision_evidence(decision, comparison), matured[-1].matured
    if not decision.passed:
        return refuse(version, champion, moment, "; ".join(decision.reasons), evidence, res)
    return _promote_or_request(version, champion, moment, f"{staged.reason}; passed the shadow test", evidence, res)


def _without_references(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the evidence of a staged version without the periods for decay, which its row keeps."""
    return {name: value for name, value in evidence.items() if name != REFERENCES}


def _digest_like(version: Version, res: Resources, other: str) -> str:
    """Return the digest of a version's model in the scheme of another digest, such as that of a version of v0.1."""
    if same_scheme(version.digest, other):
        return version.digest
    return model_digest(res.load(version.version), like=other)


def _promote_or_request(
    version: Version, champion: Promotion | None, as_of: datetime, reason: str, evidence: dict[str, Any], res: Resources
) -> Promotion:
    """Promote, or request a person's approval if `promotion.approval` is set."""
    if res.config.promotion.approval:
        row = append_row(
            "request", version, champion, as_of, f"{reason}; a person is asked to run `promote`", evidence, res
        )
    else:
        row = append_row("promote", version, champion, as_of, reason, evidence, res)
    deliver(res)
    return row


@as_task("promote v{version.version}")
def promote_version(
    version: Version,
    decision: GateDecision,
    comparison: Comparison,
    champion: Promotion | None,
    as_of: datetime,
    reason: str,
    res: Resources,
    by: str,
    action: Literal["promote", "adopt"] = "promote",
) -> Promotion:
    """Make a version champion after `as_of` in the name of a person, on the basis of a new gate decision.

    Who asks for it and why is a row of its own, `propose`. What the gate decided and why is another one, by the automation.

    Raises:
        StaleDecision: `champion`, against which the version was judged, is no longer champion. Judge again.
        GateRefused: the gate refused the version, or the decision is about another version.
    """
    evidence = decision_evidence(decision, comparison)
    if not was_proposed(version.version, champion, by, reason, res.ledger.promotions()):
        append_row("propose", version, champion, as_of, reason, {}, res, by)
    if not decision.passed or decision.version not in (version.version, version.judged_as):
        refusal = "; ".join(decision.reasons) or "the decision is about another version"
        refuse(version, champion, as_of, refusal, evidence, res)
        raise GateRefused(f"{version.model} v{version.version} is not promoted: {refusal}")
    if stage_of(version.version, res.ledger.promotions()) != "challenger":
        stage(version, champion, as_of, f"passed the gate, judged again for {by}", evidence, res)
    row = append_row(action, version, champion, as_of, reason, evidence, res, by)
    deliver(res)
    return row


@as_task("refuse v{version.version}")
def refuse_challenger(version: Version, by: str, reason: str, res: Resources) -> Promotion:
    """Refuse the challenger in the name of a person.

    Raises:
        UnknownVersion: the version is not challenger.
    """
    staged = res.ledger.challenger()
    if staged is None or staged.version != version.version:
        now = f"version {staged.version} is" if staged else "there is none now"
        raise UnknownVersion(f"{version.model}: only a challenger can be refused, and {now}")
    return refuse(version, res.ledger.champion(), staged.as_of, reason, {}, res, by)


@as_task("restore alias")
def restore_alias(by: str, reason: str, res: LiveResources) -> Promotion:
    """Set the champion alias to the ledger's champion again, and record by whom and why.

    Raises:
        UnknownVersion: the model has no champion.
    """
    champion = res.ledger.champion()
    if champion is None:
        raise UnknownVersion(f"{res.config.name}: the ledger has no champion to which the alias could be restored")
    alias = {"alias_was": res.registry.alias()}
    row = append_row(
        "restore", res.registry.version(champion.version), champion, champion.as_of, reason, alias, res, by
    )
    deliver(res)
    return row


@as_task("roll back")
def roll_back(number: str | None, by: str, reason: str, as_of: datetime | None, res: Resources) -> Promotion:
    """Make an earlier champion the champion again, after a smoke test in a new process.

    Raises:
        UnknownVersion: the version was never champion, or it no longer exists in MLflow.
        GateRefused: it fails the smoke test.
        StaleDecision: another version was promoted in the meantime.
    """
    champion, history = res.ledger.champion(), res.ledger.champions()
    earlier = [p.version for p in history if champion and p.version != champion.version]
    target = number or predecessor(history)
    if champion is None or target not in earlier:
        versions = ", ".join(dict.fromkeys(earlier)) or "none"
        raise UnknownVersion(
            f"{res.config.name}: version {target or '?'} was never champion before; earlier champions: {versions}"
        )
    version, newest = res.registry.version(target), newest_ref(res, as_of)
    rows = res.lake.read(Stage.VALID, newest.key).head(1000)
    result = query(version, rows, predict(res.load(target), rows, res.config), res)
    if result.problem:
        raise GateRefused(
            f"{res.config.name} v{target} fails load-and-query on {newest}: {result.problem}; choose another version"
        )
    tested = {"query": vars(result), "asked_about": newest.key}
    moment = as_of or max(newest.as_of, champion.as_of)
    row = append_row("rollback", version, champion, moment, reason, tested, res, by)
    deliver(res)
    return row
