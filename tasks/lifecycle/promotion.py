"""Take a version through its stages, each step a row in the ledger: candidate -> challenger -> champion.

`tasks/lifecycle/gate.py` decides and touches nothing; this acts and decides nothing that the gate or model.yaml has
not. Every step may be cut off: what the ledger says is true, and the next run goes on from there.
"""

from datetime import datetime
from typing import Any, Literal

from tasks.contracts import AUTOMATION, Comparison, GateDecision, Promotion, Stage, Training, Version
from tasks.errors import GateRefused, UnknownVersion
from tasks.ledger.history import count_tests, predecessor, promotion_exclusion, was_requested
from tasks.ledger.promotions import stage_of
from tasks.lifecycle.gate import evidence, judge_shadow
from tasks.lifecycle.gate_tasks import log_verdicts
from tasks.lifecycle.outbox import deliver
from tasks.lifecycle.shadow import compare_in_shadow, differing_in_shadow, matured_shadow
from tasks.models.features import predict
from tasks.orchestration.ledger_rows import write
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.steps.order import newest_ref
from tasks.training.evaluation import query


@as_task("stage or refuse v{training.version}")
def apply_gate_decision(training: Training, champion: Promotion | None, reason: str, res: Resources) -> Promotion:
    """Write down what the gate said: the version becomes challenger, or is refused. An earlier challenger retires."""
    challenger, comparison = training.challenger, training.comparison
    assert challenger
    assert comparison
    found, moment = evidence(training.decision, comparison), training.window.as_of
    version = training.final or challenger
    if version.version != challenger.version:
        write("retire", challenger, champion, moment, f"refitted as version {version.version}", {}, res)
    if not training.decision.passed:
        return refuse(version, champion, moment, "; ".join(training.decision.reasons), found, res)
    return stage(version, champion, moment, reason, found, res)


def stage(
    version: Version,
    champion: Promotion | None,
    as_of: datetime,
    reason: str,
    found: dict[str, Any],
    res: Resources,
    by: str = AUTOMATION,
) -> Promotion:
    """Make a version that passed the gate the model's challenger."""
    earlier = res.ledger.challenger()
    if earlier and earlier.version != version.version:
        retired = res.registry.version(earlier.version)
        write("retire", retired, champion, as_of, f"superseded by version {version.version}", {}, res)
    row = write("stage", version, champion, as_of, reason, found, res, by)
    for number in filter(None, (version.version, version.judged_as)):
        res.registry.recall(number)  # remembered here, it can be watched when MLflow is down
        res.load(number)
    deliver(res)
    return row


def refuse(
    version: Version,
    champion: Promotion | None,
    as_of: datetime,
    why: str,
    found: dict[str, Any],
    res: Resources,
    by: str = AUTOMATION,
) -> Promotion:
    """Write down that a version was judged and not passed: whoever tries again has another look."""
    row = write("refuse", version, champion, as_of, why, found, res, by)
    deliver(res)
    return row


@as_task("advance the challenger")
def advance_challenger(res: Resources) -> Promotion | None:
    """Take the challenger as far as model.yaml lets it go now; returns the ledger's row if there is a new one.

    It waits until enough partitions that it scored in the champion's shadow have matured, must hold up
    on them, and then is promoted, or waits for a person. A step that a killed run left undone is done.
    """
    staged, champion = res.ledger.challenger(), res.ledger.champion()
    if staged is None:
        return None
    version = res.registry.version(staged.version)
    if bar := promotion_exclusion(version, res.ledger.promotions()):
        return refuse(version, champion, staged.as_of, bar, {}, res)
    if res.config.promotion.approval and was_requested(version.version, champion, res.ledger.promotions()):
        return None  # it is the person's turn, and `promote` judges anew
    needed = res.config.promotion.shadow.partitions if champion else 0
    if needed == 0:
        if staged.against != (champion.sequence if champion else 0):
            why = f"it was judged against version {staged.previous or 'none'}, which is champion no longer; train or `promote` anew"
            return refuse(version, champion, staged.as_of, why, {}, res)
        return _promote_or_request(version, champion, staged.as_of, staged.reason, dict(staged.evidence), res)
    assert champion
    matured = matured_shadow(staged, champion, res)
    if len(matured) < needed:
        run_log().info("challenger v%s: %d of %d shadow partitions have matured", staged.version, len(matured), needed)
        return None
    comparison = compare_in_shadow(version, champion, matured, res)
    look = count_tests(champion, res.ledger.promotions())
    decision = judge_shadow(comparison, len(matured), res.config, look, differing_in_shadow(matured, res))
    found, moment = evidence(decision, comparison), matured[-1].as_of
    log_verdicts(decision.verdicts)
    if not decision.passed:
        return refuse(version, champion, moment, "; ".join(decision.reasons), found, res)
    return _promote_or_request(
        version, champion, moment, f"{staged.reason}; held up in the champion's shadow", found, res
    )


def _promote_or_request(
    version: Version, champion: Promotion | None, as_of: datetime, reason: str, found: dict[str, Any], res: Resources
) -> Promotion:
    """Promote, or ask for a person's approval."""
    if res.config.promotion.approval:
        row = write("request", version, champion, as_of, f"{reason}; waits for a person to run `promote`", found, res)
    else:
        row = write("promote", version, champion, as_of, reason, found, res)
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
    """Make a version champion from `as_of` on in the name of a person, on a judgement of now.

    Raises:
        StaleDecision: `champion`, which the decision was made against, is no longer; judge again.
        GateRefused: the decision did not pass, or is about another version.
    """
    found = evidence(decision, comparison)
    if not decision.passed or decision.version not in (version.version, version.judged_as):
        why = "; ".join(decision.reasons) or "the decision is about another version"
        refuse(version, champion, as_of, why, found, res, by)
        raise GateRefused(f"{version.model} v{version.version} is not promoted: {why}")
    if stage_of(version.version, res.ledger.promotions()) != "challenger":
        stage(version, champion, as_of, f"the gate passed it, judged again for {by}", found, res, by)
    row = write(action, version, champion, as_of, reason, found, res, by)
    deliver(res)
    return row


@as_task("refuse v{version.version}")
def refuse_challenger(version: Version, by: str, reason: str, res: Resources) -> Promotion:
    """Refuse the challenger in the name of a person; the champion stays.

    Raises:
        UnknownVersion: that version is not challenger.
    """
    staged = res.ledger.challenger()
    if staged is None or staged.version != version.version:
        now = f"version {staged.version} is" if staged else "there is none now"
        raise UnknownVersion(f"{version.model}: only a challenger can be refused, and {now}")
    return refuse(version, res.ledger.champion(), staged.as_of, reason, {}, res, by)


@as_task("put the alias back")
def restore_alias(by: str, reason: str, res: Resources) -> Promotion:
    """Point the alias at the ledger's champion again, and write down who did and why.

    Raises:
        UnknownVersion: there is no champion.
    """
    champion = res.ledger.champion()
    if champion is None:
        raise UnknownVersion(f"{res.config.name}: the ledger has no champion that the alias could be put back to")
    found = {"alias_was": res.registry.alias()}
    row = write("restore", res.registry.version(champion.version), champion, champion.as_of, reason, found, res, by)
    deliver(res)
    return row


@as_task("roll back")
def roll_back(number: str | None, by: str, reason: str, as_of: datetime | None, res: Resources) -> Promotion:
    """Make an earlier champion the champion again, once a fresh process has loaded and queried it.

    Raises:
        UnknownVersion: no such earlier champion, or MLflow no longer has it.
        GateRefused: it does not load, or does not answer soundly.
        StaleDecision: somebody else promoted meanwhile.
    """
    champion, history = res.ledger.champion(), res.ledger.champions()
    earlier = [p.version for p in history if champion and p.version != champion.version]
    target = number or predecessor(history)
    if champion is None or target not in earlier:
        known = ", ".join(dict.fromkeys(earlier)) or "none"
        raise UnknownVersion(
            f"{res.config.name}: version {target or '?'} was never champion before; earlier champions: {known}"
        )
    version, newest = res.registry.version(target), newest_ref(res)
    rows = res.lake.read(Stage.VALID, newest.key).head(1000)
    asked_about = query(version, rows, predict(res.load(target), rows, res.config), res)
    if asked_about.problem:
        raise GateRefused(
            f"{res.config.name} v{target} fails load-and-query on {newest}: {asked_about.problem}; choose another version"
        )
    found = {"query": vars(asked_about), "asked_about": newest.key}
    moment = as_of or max(newest.as_of, champion.as_of)
    row = write("rollback", version, champion, moment, reason, found, res, by)
    deliver(res)
    return row
