"""Take a version through its stages, each step a row in the ledger: candidate -> challenger -> champion.

`tasks/gate.py` decides and touches nothing; this acts and decides nothing that the gate or model.yaml has
not. Every step may be cut off: what the ledger says is true, and the next run goes on from there.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import get_current_settings

from tasks.contracts import (
    AFTER,
    Action,
    Comparison,
    GateDecision,
    Promotion,
    Stage,
    Training,
    Version,
)
from tasks.delivery import deliver
from tasks.errors import GateRefused, StaleDecision, UnknownVersion
from tasks.evaluation import query
from tasks.features import predict
from tasks.gate import evidence, judge_shadow
from tasks.ledger.promotions import stage_of
from tasks.resources import Resources
from tasks.shadow import compare_in_shadow, matured_shadow
from tasks.window import newest_ref

AUTOMATION = "evergreen"
WHY = "the gate passed it"


def assurance(by: str) -> Literal["automation", "asserted", "authenticated"]:
    """How sure a name is. Prefect's own server knows no users: with its shared password a name is authenticated only as far as that."""
    if by == AUTOMATION:
        return "automation"
    api = get_current_settings().api
    return "authenticated" if api.key or api.auth_string else "asserted"


def write(
    action: Action,
    version: Version,
    champion: Promotion | None,
    as_of: datetime,
    reason: str,
    found: dict[str, Any],
    res: Resources,
    by: str = AUTOMATION,
) -> Promotion:
    """Append one row about a version, decided against `champion`."""
    row = Promotion(
        model=version.model,
        sequence=0,
        action=action,
        version=version.version,
        previous=champion.version if champion else None,
        against=champion.sequence if champion else 0,
        as_of=as_of,
        window_end=version.window_end,
        by=by,
        assurance=assurance(by),
        reason=reason,
        evidence=found | {"digest": version.digest},
        run_id=version.run_id,
        flow_run=res.flow_run,
    )
    written = res.ledger.append(row)
    get_run_logger().info("row %d: version %s, %s: %s", written.sequence, written.version, written.action, reason)
    return written


def looks(res: Resources, champion: Promotion | None) -> int:
    """Which judgement against this champion the next one is. A re-judgement counts as another look."""
    if champion is None:
        return 1
    judged = [r for r in res.ledger.promotions() if r.against == champion.sequence and r.evidence.get("verdicts")]
    return 1 + len({str(r.evidence["verdicts"]) for r in judged})


@task(cache_policy=NO_CACHE, task_run_name="stage or refuse v{training.version}")
def settle_training(training: Training, champion: Promotion | None, reason: str, res: Resources) -> Promotion:
    """Write down what the gate said: the version becomes challenger, or is refused. An earlier challenger retires."""
    challenger, comparison = training.challenger, training.comparison
    assert challenger
    assert comparison
    found, moment = evidence(training.decision, comparison), training.window.as_of
    version = training.final or challenger
    if version.version != challenger.version:
        write("retire", challenger, champion, moment, f"refitted as version {version.version}", {}, res)
    if not training.decision.passed:
        row = write("refuse", version, champion, moment, "; ".join(training.decision.reasons), found, res)
        deliver(res)
        return row
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
    res.registry.recall(version.version)  # remembered here, it can be watched when MLflow is down
    deliver(res)
    return row


@task(cache_policy=NO_CACHE, task_run_name="advance the challenger")
def advance_challenger(res: Resources) -> Promotion | None:
    """Take the challenger as far as model.yaml lets it go now; returns the ledger's row if there is a new one.

    It waits until enough partitions that it scored in the champion's shadow have matured, must hold up
    on them, and then is promoted, or waits for a person. A step that a killed run left undone is done.
    """
    staged, champion = res.ledger.challenger(), res.ledger.champion()
    if staged is None:
        return None
    version = res.registry.version(staged.version)
    if bar := barred(version, res.ledger.promotions()):
        return _refuse(version, champion, staged.as_of, bar, {}, res)
    if res.config.promotion.approval and asked(version.version, champion, res.ledger.promotions()):
        return None  # it is the person's turn, and `promote` judges anew
    needed = res.config.promotion.shadow.partitions if champion else 0
    if needed == 0:
        if staged.against != (champion.sequence if champion else 0):
            why = f"it was judged against version {staged.previous or 'none'}, which is champion no longer; train or `promote` anew"
            return _refuse(version, champion, staged.as_of, why, {}, res)
        return _promote_or_ask(version, champion, staged.as_of, staged.reason, dict(staged.evidence), res)
    assert champion
    matured = matured_shadow(staged, champion, res)
    if len(matured) < needed:
        get_run_logger().info(
            "challenger v%s: %d of %d shadow partitions have matured", staged.version, len(matured), needed
        )
        return None
    comparison = compare_in_shadow(version, champion, matured, res)
    decision = judge_shadow(comparison, len(matured), res.config, looks(res, champion))
    found, moment = evidence(decision, comparison), matured[-1].as_of
    log_verdicts(decision, res)
    if not decision.passed:
        return _refuse(version, champion, moment, "; ".join(decision.reasons), found, res)
    return _promote_or_ask(version, champion, moment, f"{staged.reason}; held up in the champion's shadow", found, res)


def _refuse(
    version: Version, champion: Promotion | None, as_of: datetime, why: str, found: dict[str, Any], res: Resources
) -> Promotion:
    row = write("refuse", version, champion, as_of, why, found, res)
    deliver(res)
    return row


def _promote_or_ask(
    version: Version, champion: Promotion | None, as_of: datetime, reason: str, found: dict[str, Any], res: Resources
) -> Promotion:
    """Promote, or ask for a person's approval."""
    if res.config.promotion.approval:
        row = write("request", version, champion, as_of, f"{reason}; waits for a person to run `promote`", found, res)
    else:
        row = write("promote", version, champion, as_of, reason, found, res)
    deliver(res)
    return row


def asked(version: str, champion: Promotion | None, rows: Sequence[Promotion]) -> bool:
    """Whether a person has been asked about a version while this champion was in force."""
    against = champion.sequence if champion else 0
    return any(r.action == "request" and r.version == version and r.against == against for r in rows)


def log_verdicts(decision: GateDecision, res: Resources) -> None:
    for verdict in decision.verdicts:
        get_run_logger().info("%s", verdict)


@task(cache_policy=NO_CACHE, task_run_name="promote v{version.version}")
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
        if stage_of(version.version, res.ledger.promotions()) == "challenger":
            _refuse(version, champion, as_of, why, found, res)
        raise GateRefused(f"{version.model} v{version.version} is not promoted: {why}")
    if stage_of(version.version, res.ledger.promotions()) != "challenger":
        stage(version, champion, as_of, f"{WHY}, judged again for {by}", found, res, by)
    row = write(action, version, champion, as_of, reason, found, res, by)
    deliver(res)
    return row


@task(cache_policy=NO_CACHE, task_run_name="put the alias back")
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


@task(cache_policy=NO_CACHE, task_run_name="roll back")
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
    asked_about = query(version, rows, predict(res.registry.load(target), rows, res.config), res)
    if asked_about.problem:
        raise GateRefused(
            f"{res.config.name} v{target} fails load-and-query on {newest}: {asked_about.problem}; choose another version"
        )
    found = {"query": vars(asked_about), "asked_about": newest.key}
    moment = as_of or max(newest.as_of, champion.as_of)
    row = write("rollback", version, champion, moment, reason, found, res, by)
    deliver(res)
    return row


def predecessor(history: Sequence[Promotion]) -> str | None:
    """The version that the champion replaced when it was promoted; what was rolled back from does not count.

    `history` are the rows that made champions, oldest first.
    """
    champion = history[-1].version if history else None
    promoted = [p for p in history if p.version == champion and p.action in ("promote", "adopt")]
    return promoted[-1].previous if promoted else None


def barred(version: Version, rows: Sequence[Promotion]) -> str:
    """Why automation may not promote a version: a person rolled back from it, or from its twin by digest.

    A later promotion by a person lifts the bar. Empty when there is none.
    """
    why = ""
    digests = {row.version: row.evidence.get("digest") for row in rows}
    for row in rows:
        left = row.previous if row.action == "rollback" else None
        if left and (left == version.version or digests.get(left) == version.digest):
            why = f"{row.by} rolled back from version {left} ({row.reason}); only a person may promote it again, by `promote`"
        made = AFTER[row.action] == "champion" and row.by != AUTOMATION and row.action in ("promote", "adopt")
        if made and (row.version == version.version or digests.get(row.version) == version.digest):
            why = ""
    return why


def stale_look(against: str | None, champion: Promotion | None, model: str) -> None:
    """Refuse an approval that was given while another version was champion.

    Raises:
        StaleDecision: naming both.
    """
    current = champion.version if champion else None
    if against is not None and against != current:
        raise StaleDecision(
            f"{model}: the approval is for a time when version {against} was champion, but now it is version {current or 'none'}; "
            f"look at the newest evidence and approve again"
        )
