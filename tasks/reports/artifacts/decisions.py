"""What `retrain`, `promote` and `rollback` leave, and the proofs of `reproduce` and `audit`: the rows of the database for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_table_artifact

from tasks.contracts import Decision, Fact, Hindsight, Promotion
from tasks.contracts.words import decision_text, number
from tasks.lifecycle.audit import Audit
from tasks.lifecycle.hindsight import verdict_text
from tasks.orchestration.run_names import page_key
from tasks.reports.artifacts.model import publish_model
from tasks.reports.artifacts.page import publish_page, version_link
from tasks.resources import Resources
from tasks.training.reproduction import Reproduction


def publish_decision(res: Resources, decision: Decision, partition: str) -> str:
    """The page of a `retrain` run; returns the headline."""
    name = res.config.name
    line = f"{name} {partition}: {decision_text(decision)}. {decision.reason}."
    page = [
        f"- rule: {decision.rule}",
        f"- as of: {decision.as_of.isoformat()}",
        f"- fact: `{decision.fact_id}`",
        f"- outcome: {decision.outcome or '-'} {decision.detail}",
        f"- cost: {decision.seconds:.0f} s of training" if decision.action == "retrain" else "- cost: none",
        *(f"- gate: {line}" for line in decision.gate),
        "",
        *_seen(decision.signals),
    ]
    facts = {f.id: f for f in res.ledger.facts()}
    rows = [decision_row(d, facts.get(d.fact_id)) for d in reversed(res.ledger.decisions())]
    create_table_artifact(rows, key=page_key(name, "decisions"), description=f"{name}: every decision, newest first")
    return publish_page(res, "retrain", line, page)


def decision_row(decision: Decision, fact: Fact | None) -> dict[str, Any]:
    """One decision for people."""
    return {
        "as of": f"{decision.as_of:%Y-%m-%d}",
        "decision": decision_text(decision),
        "why": decision.reason,
        "seen": f"{fact.kind} in {fact.partition}: {fact.payload.get('told', '')}" if fact else "",
        "rule": decision.rule,
        "seconds": round(decision.seconds),
    }


def _seen(signals: Mapping[str, Any]) -> list[str]:
    """What the policy saw, as a markdown table."""
    if not signals:
        return []
    cells = [
        (k, ", ".join(f"{a} {b}" for a, b in v.items()) if isinstance(v, Mapping) else v) for k, v in signals.items()
    ]
    return ["| what the policy saw | |", "|---|---|", *(f"| {name} | {value} |" for name, value in cells)]


def publish_hindsights(res: Resources, found: Sequence[Hindsight]) -> None:
    """The table of which promotions helped, when there is a new one."""
    if found:
        name, rows = res.config.name, [hindsight_row(h) for h in reversed(res.ledger.hindsights())]
        description = f"{name}: {'; '.join(verdict_text(h) for h in found)}"
        create_table_artifact(rows, key=page_key(name, "verdicts"), description=description)


def hindsight_row(h: Hindsight) -> dict[str, Any]:
    """One verdict on a promotion for people."""
    gain = h.gain
    return {
        "version": h.version,
        "instead of": h.previous,
        "verdict": h.verdict,
        "gain in loss": f"{gain.value:+.4f}" if gain else "",
        "bounds": f"{gain.lower:+.4f} to {gain.upper:+.4f}" if gain else "",
        "on": ", ".join(h.partitions),
        "rows": h.rows,
        "note": h.note,
    }


def publish_promotion(res: Resources, promotion: Promotion) -> str:
    """The page of a `promote` or `rollback` run and the ledger as a table; returns the headline."""
    name = res.config.name
    became = (
        f"is champion for partitions after {promotion.as_of:%Y-%m-%d}"
        if promotion.to_stage == "champion"
        else "was refused"
    )
    line = f"{name}: version {promotion.version} {became}, by {promotion.by}: {promotion.reason}"
    description = f"{name}: every change of stage"
    create_table_artifact(ledger_rows(res.ledger.promotions()), key=page_key(name, "ledger"), description=description)
    publish_page(res, promotion.action, line, version_link(res, promotion.version, promotion.run_id))
    publish_model(res)
    return line


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
    sound = (
        f"{len(found.problems)} {'thing does' if len(found.problems) == 1 else 'things do'} not agree"
        if found.problems
        else "ledger, MLflow and events agree"
    )
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
