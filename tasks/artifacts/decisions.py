"""What `retrain`, `promote` and `rollback` leave, and the proofs of `reproduce` and `audit`: the rows of the database for people."""

from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_table_artifact

from tasks.artifacts.page import number, page_key, publish_page, told, version_link
from tasks.audit import Audit
from tasks.contracts import Decision, Promotion
from tasks.reproduction import Reproduction
from tasks.resources import Resources


def publish_decision(res: Resources, decision: Decision, partition: str) -> str:
    """The page of a `retrain` run; returns the headline."""
    name = res.config.name
    line = f"{name} {partition}: {told(decision)}. {decision.reason}."
    page = [
        f"- rule: {decision.rule}",
        f"- as of: {decision.as_of.isoformat()}",
        f"- fact: `{decision.fact_id}`",
        f"- outcome: {decision.outcome or '-'} {decision.detail}",
    ]
    rows = [{"as of": f"{d.as_of:%Y-%m-%d}", "decision": told(d), "why": d.reason} for d in res.ledger.decisions()]
    create_table_artifact(rows, key=page_key(name, "decisions"), description=f"{name}: every decision so far")
    return publish_page(res, "retrain", line, page)


def publish_promotion(res: Resources, promotion: Promotion) -> str:
    """The page of a `promote` or `rollback` run and the ledger as a table; returns the headline."""
    name = res.config.name
    since = f"for partitions after {promotion.as_of:%Y-%m-%d}, by {promotion.by}: {promotion.reason}"
    line = f"{name}: version {promotion.version} is champion {since}"
    description = f"{name}: every change of stage"
    create_table_artifact(ledger_rows(res.ledger.promotions()), key=page_key(name, "ledger"), description=description)
    return publish_page(res, promotion.action, line, version_link(res, promotion.version, promotion.run_id))


def ledger_rows(rows: Sequence[Promotion]) -> list[dict[str, Any]]:
    """The ledger for people, newest first."""
    return [
        {
            "#": row.sequence,
            "version": row.version,
            "from": row.from_stage,
            "to": row.to_stage,
            "action": row.action,
            "as of": f"{row.as_of:%Y-%m-%d}",
            "by": row.by if row.assurance == "automation" else f"{row.by} ({row.assurance})",
            "reason": row.reason,
        }
        for row in reversed(rows)
    ]


def publish_reproduction(res: Resources, found: Reproduction) -> str:
    """The page of a `reproduce` run; returns the headline."""
    name = f"{res.config.name} version {found.version}"
    if found.same:
        line = f"{name} was reproduced: the same digest, and the same bytes of predictions for {found.rows:,} rows."
    elif found.changed:
        line = f"{name} was not reproduced: the data have changed since in {', '.join(c.split(':')[0] for c in found.changed)}."
    else:
        line = f"{name} was not reproduced, though its rows are the same: {'; '.join(found.differs) or 'nothing known differs'}."
    page = [
        f"- digest then: `{found.digest}`",
        f"- digest now: `{found.digest_again}`",
        f"- predictions: {'the same bytes' if found.same_predictions else 'other bytes'} for {found.rows:,} rows",
        *(f"- data changed: {told}" for told in found.changed),
        *(f"- not as it was: {told}" for told in found.differs),
    ]
    return publish_page(res, "reproduce", line, page)


def publish_audit(res: Resources, found: Audit) -> str:
    """The page of an `audit` run and the ledger as a table; returns the headline."""
    create_table_artifact(
        ledger_rows(found.rows),
        key=page_key(found.model, "ledger"),
        description=f"{found.model}: every change of stage",
    )
    line = audit_headline(found)
    return publish_page(res, "audit", line, audit_lines(found))


def audit_headline(found: Audit) -> str:
    """Who was champion, and whether the record holds together."""
    when = f"at {found.at.isoformat()}" if found.at else "today"
    who = f"version {found.champion.version} was champion" if found.champion else "there was no champion"
    sound = f"{len(found.problems)} things do not agree" if found.problems else "ledger, MLflow and events agree"
    return f"{found.model}: {when} {who}; {sound}."


def audit_lines(found: Audit) -> list[str]:
    """The path of the champion with its evidence, and what was checked, as markdown."""
    lines = [f"Checked: {found.checked}.", *(f"- **{problem}**" for problem in found.problems), ""]
    for row in found.path:
        who = row.by if row.assurance == "automation" else f"{row.by} ({row.assurance} name)"
        lines.append(
            f"- row {row.sequence}, {row.action}, as of {row.as_of:%Y-%m-%d}, written {row.recorded_at}, by {who}: {row.reason}"
        )
    verdicts = [v for row in reversed(found.path) if (v := row.evidence.get("verdicts"))]
    if verdicts:
        lines += ["", "| rule | verdict | value | threshold | |", "|---|---|---|---|---|"]
        shown = [(v, number(v["value"], 5), number(v["threshold"], 5)) for v in verdicts[0]]
        lines += [f"| {v['rule']} | {v['outcome']} | {value} | {bound} | {v['note']} |" for v, value, bound in shown]
    return lines
