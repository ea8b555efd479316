"""Judge a challenger against the champion, and promote it by a row in the ledger.

`judge` is the whole rule and touches nothing; `promote` is the whole side effect and
decides nothing. Changing what "better" means should never touch `promote`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Literal

import numpy as np
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from configs.schema import Gate
from tasks.contracts import Comparison, GateDecision, Promotion, Stage, Verdict, Version
from tasks.errors import GateRefused, UnknownVersion
from tasks.evaluation import NO_CHAMPION
from tasks.features import predict
from tasks.performance import finite
from tasks.resources import Resources
from tasks.window import newest_ref

NAN = float("nan")


def judge(comparison: Comparison, gate: Gate) -> GateDecision:
    """Return the gate's decision on a challenger, rule by rule.

    Losses are log loss on the holdout. A rule that cannot be judged fails: NaN compares as
    not passed. Without a champion there is no gain to show, and the challenger must only
    hold the floor and beat the prior.
    """
    loss = comparison.challenger.metrics.get("log_loss", NAN)
    prior = comparison.prior.metrics.get("log_loss", NAN)
    verdicts = [
        Verdict("floor: log loss", loss <= gate.max_loss, loss, gate.max_loss),
        Verdict("better than the prior: log loss", loss < prior, loss, prior),
    ]
    first = comparison.champion is None and comparison.impossible == NO_CHAMPION
    if comparison.gain is not None:
        note = f"mean gain {comparison.gain.value:.5f} over {comparison.blocks} days"
        verdicts.append(
            Verdict(
                "gain over the champion, lower bound",
                comparison.gain.lower > gate.min_gain,
                comparison.gain.lower,
                gate.min_gain,
                note,
            )
        )
    elif not first:
        verdicts.append(
            Verdict(
                "gain over the champion, lower bound",
                False,
                NAN,
                gate.min_gain,
                f"could not be judged: {comparison.impossible}",
            )
        )
    against = comparison.champion.version if comparison.champion else None
    return GateDecision(comparison.challenger.version, against, tuple(verdicts))


@task(cache_policy=NO_CACHE, task_run_name="judge v{comparison.challenger.version}")
def judge_challenger(comparison: Comparison, challenger: Version, res: Resources) -> GateDecision:
    """Run the gate, and leave every rule's numbers in the run log and on the MLflow run."""
    decision = judge(comparison, res.config.gate)
    for verdict in decision.verdicts:
        get_run_logger().info("%s", verdict)
    metrics = {f"holdout_{k}": v for k, v in comparison.challenger.metrics.items()}
    if comparison.gain:
        metrics |= {"gain": comparison.gain.value, "gain_lower": comparison.gain.lower}
    res.registry.annotate(challenger.run_id, metrics, {"gate.json": evidence(decision, comparison)})
    return decision


def evidence(decision: GateDecision, comparison: Comparison) -> dict[str, object]:
    """What the ledger keeps of a judgement: numbers and thresholds, NaN as null."""
    cards = [c for c in (comparison.challenger, comparison.champion, comparison.prior) if c]
    verdicts = [asdict(v) | finite({"value": v.value, "threshold": v.threshold}) for v in decision.verdicts]
    return {
        "judged": decision.version,
        "against": decision.against,
        "passed": decision.passed,
        "verdicts": verdicts,
        "holdout": {c.version: {"rows": c.rows} | finite(c.metrics) for c in cards},
    }


@task(cache_policy=NO_CACHE, task_run_name="promote v{version.version}")
def promote_version(
    version: Version,
    decision: GateDecision,
    comparison: Comparison,
    champion: Promotion | None,
    as_of: datetime,
    reason: str,
    res: Resources,
    by: str = "evergreen",
) -> Promotion:
    """Make a version champion from `as_of` on. Safe to run twice, and to die anywhere in.

    The ledger's row is the promotion; the alias follows it. If we die between the two, the
    next training's `registry.follow` repairs it.

    Raises:
        StaleDecision: `champion`, which the decision was made against, is no longer; judge again.
        GateRefused: the decision did not pass, or is about another version.
    """
    if not decision.passed or decision.version not in (version.version, version.judged_as):
        why = "; ".join(decision.reasons) or "the decision is about another version"
        raise GateRefused(f"{version.model} v{version.version} is not promoted: {why}")
    return _append("promote", version, champion, as_of, by, reason, evidence(decision, comparison), res)


@task(cache_policy=NO_CACHE, task_run_name="roll back")
def roll_back(number: str | None, by: str, reason: str, as_of: datetime | None, res: Resources) -> Promotion:
    """Make an earlier champion the champion again, once it has loaded and scored the newest valid rows.

    Raises:
        UnknownVersion: no such earlier champion, or MLflow no longer has it.
        StaleDecision: somebody else promoted meanwhile.
    """
    champion = res.ledger.champion()
    history = res.ledger.promotions()
    earlier = [p.version for p in history if champion and p.version != champion.version]
    target = number or predecessor(history)
    if champion is None or target not in earlier:
        known = ", ".join(dict.fromkeys(earlier)) or "none"
        raise UnknownVersion(
            f"{res.config.name}: version {target or '?'} was never champion before; earlier champions: {known}"
        )
    newest = newest_ref(res)
    rows = res.lake.read(Stage.VALID, newest.key).head(1000)
    scored = predict(res.registry.load(target), rows, res.config.features)
    if not np.isfinite(scored).all():
        raise GateRefused(
            f"{res.config.name} v{target} gives predictions that are no numbers on {newest}; choose another version"
        )
    checked = {"checked_rows": len(rows), "checked_on": newest.key}
    moment = as_of or max(newest.as_of, champion.as_of)
    return _append("rollback", res.registry.version(target), champion, moment, by, reason, checked, res)


def predecessor(history: Sequence[Promotion]) -> str | None:
    """The version that the champion replaced when it was promoted; what was rolled back from does not count."""
    champion = history[-1].version if history else None
    promoted = [p for p in history if p.version == champion and p.action == "promote"]
    return promoted[-1].previous if promoted else None


def _append(
    action: Literal["promote", "rollback"],
    version: Version,
    champion: Promotion | None,
    as_of: datetime,
    by: str,
    reason: str,
    found: dict[str, object],
    res: Resources,
) -> Promotion:
    """Write the ledger's next row unless it stands there, and let the alias follow."""
    current = res.ledger.champion()
    if current is None or current.version != version.version:
        row = Promotion(
            model=version.model,
            sequence=0,
            action=action,
            version=version.version,
            previous=champion.version if champion else None,
            as_of=as_of,
            window_end=version.window_end,
            by=by,
            reason=reason,
            evidence=found | {"digest": version.digest},
            run_id=version.run_id,
            flow_run=res.flow_run,
        )
        current = res.ledger.append(row)
        get_run_logger().info("version %s is champion for partitions after %s", version.version, as_of.isoformat())
    res.registry.follow(res.ledger)
    return current
