"""Artifacts of `retrain`, `promote`, `rollback`, `reproduce` and `audit` runs: pages, and the rows of the database as tables."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.contracts import Decision, Fact, Hindsight, Promotion
from tasks.contracts.escape import for_markdown
from tasks.contracts.words import change_text, decision_text, duration_text, number, value_text, who
from tasks.lifecycle.audit import Audit
from tasks.lifecycle.hindsight import verdict_text
from tasks.reports.artifacts.model import publish_model
from tasks.reports.artifacts.page import publish_page, publish_table, table_lines, version_link
from tasks.resources import Resources
from tasks.training.reproduction import Reproduction

DECISIONS_LEGEND = "Rule: what decided. Duration: selection, fit, gate and refit."
VERDICTS_LEGEND = "Gain in loss: loss of the previous champion minus the champion's on the same rows. Bounds: of its confidence interval."
LEDGER_LEGEND = (
    "As of: the change counts for partitions that are complete after it. Asserted: the name was not checked."
)


def publish_decision(res: Resources, decision: Decision, partition: str) -> tuple[str, list[str]]:
    """Create the page of a `retrain` run and the table of all decisions; returns the headline and the run's tags."""
    name, changes = res.config.name, res.ledger.promotions()
    line = f"{name} {partition}: {decision_text(decision, changes)}. {decision.reason}."
    line += f" The gate refused: {decision.detail}." if decision.outcome == "refused" else ""
    page = [
        f"- rule: {decision.rule}",
        f"- as of: {decision.as_of.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        f"- fact: `{decision.fact_id}`",
        f"- outcome: {decision.outcome or '-'} {for_markdown(decision.detail)}",
        f"- duration: {duration_text(decision.seconds)} for selection, fit, gate and refit"
        if decision.action == "retrain"
        else "- duration: nothing was trained",
        *(f"- gate: {for_markdown(verdict)}" for verdict in decision.gate),
        "",
        *_signal_table(decision.signals),
    ]
    facts = {f.id: f for f in res.ledger.facts()}
    rows = [decision_row(d, facts.get(d.fact_id), changes) for d in reversed(res.ledger.decisions())]
    publish_table(res, "decisions", rows, f"{name}: every decision, newest first. {DECISIONS_LEGEND}")
    return publish_page(res, "retrain", line, page), decision_tags(decision)


def decision_tags(decision: Decision) -> list[str]:
    """Return the tags of a `retrain` run: the rule that decided, and the outcome."""
    outcome = "declined" if decision.action == "decline" else decision.outcome
    return [decision.rule, *([outcome] if outcome in ("declined", "promoted", "refused") else [])]


def decision_row(decision: Decision, fact: Fact | None, changes: Sequence[Promotion]) -> dict[str, Any]:
    """Return a decision as a table row. `changes` are the model's ledger rows."""
    return {
        "as of": f"{decision.as_of:%Y-%m-%d}",
        "decision": decision_text(decision, changes),
        "why": decision.reason,
        "signal": f"{fact.kind} in {fact.partition}: {fact.payload.get('told', '')}" if fact else "",
        "rule": decision.rule,
        "duration": duration_text(decision.seconds) if decision.action == "retrain" else "",
    }


def _signal_table(signals: Mapping[str, Any]) -> list[str]:
    """Return the signals that a decision is based on as a markdown table."""
    if not signals:
        return []
    return table_lines(("signal", "value"), [(name.replace("_", " "), value_text(v)) for name, v in signals.items()])


def publish_hindsights(res: Resources, new: Sequence[Hindsight]) -> None:
    """Create the table of the measured effects of all promotions, if there is a new one."""
    if new:
        name, rows = res.config.name, [hindsight_row(h) for h in reversed(res.ledger.hindsights())]
        publish_table(res, "verdicts", rows, f"{name}: {'; '.join(verdict_text(h) for h in new)}. {VERDICTS_LEGEND}")


def hindsight_row(h: Hindsight) -> dict[str, Any]:
    """Return the measured effect of a promotion as a table row."""
    gain = h.gain
    return {
        "version": h.version,
        "instead of": h.previous,
        "verdict": h.verdict,
        "gain in loss": f"{gain.value:+.4f}" if gain else "",
        "bounds": f"{gain.lower:+.4f} to {gain.upper:+.4f}" if gain else "",
        "on": ", ".join(h.partitions),
        "rows": f"{h.rows:,}",
        "note": h.note,
    }


def publish_promotion(res: Resources, promotion: Promotion) -> tuple[str, list[str]]:
    """Create the page of a `promote` or `rollback` run and the ledger as a table; returns the headline and the run's tags."""
    name = res.config.name
    result = change_text(promotion) if promotion.to_stage == "champion" else "was refused"
    line = f"{name}: version {promotion.version} {result}, by {who(promotion.by)}: {promotion.reason}"
    publish_table(
        res,
        "ledger",
        ledger_rows(res.ledger.promotions()),
        f"{name}: every change of stage, newest first. {LEDGER_LEGEND}",
    )
    publish_page(res, promotion.action, line, version_link(res, promotion.version, promotion.run_id))
    publish_model(res)
    outcome = "promoted" if promotion.to_stage == "champion" else "refused"
    return line, [outcome, f"v{promotion.version}"]


def ledger_rows(rows: Sequence[Promotion]) -> list[dict[str, Any]]:
    """Return the rows of the ledger as table rows, newest first."""
    return [
        {
            "#": row.sequence,
            "version": row.version,
            "from": row.from_stage,
            "to": row.to_stage,
            "action": row.action,
            "as of": f"{row.as_of:%Y-%m-%d}",
            "by": who(row.by) if row.assurance == "automation" else f"{row.by} ({row.assurance})",
            "reason": row.reason,
        }
        for row in reversed(rows)
    ]


def publish_reproduction(res: Resources, result: Reproduction) -> str:
    """Create the page of a `reproduce` run; returns the headline."""
    name = f"{res.config.name} version {result.version}"
    if result.same:
        line = f"{name} was reproduced: the same digest, and the same bytes of predictions for {result.rows:,} rows."
    elif result.changed:
        line = (
            f"{name} was not reproduced: the data have changed in {', '.join(c.split(':')[0] for c in result.changed)}."
        )
    else:
        line = f"{name} was not reproduced, although its rows are the same: {'; '.join(result.differs) or 'no known difference'}."
    page = [
        f"- digest then: `{result.digest}`",
        f"- digest now: `{result.digest_again}`",
        f"- predictions: {'the same bytes' if result.same_predictions else 'other bytes'} for {result.rows:,} rows",
        *(f"- data changed: {for_markdown(change)}" for change in result.changed),
        *(f"- different: {for_markdown(difference)}" for difference in result.differs),
    ]
    return publish_page(res, "reproduce", line, page)


def publish_audit(res: Resources, audit: Audit) -> str:
    """Create the page of an `audit` run and the ledger as a table; returns the headline."""
    publish_table(
        res, "ledger", ledger_rows(audit.rows), f"{audit.model}: every change of stage, newest first. {LEDGER_LEGEND}"
    )
    line = audit_headline(audit)
    return publish_page(res, "audit", line, audit_lines(audit))


def audit_headline(audit: Audit) -> str:
    """Summarise in one line which version was champion, and whether ledger, MLflow and events agree."""
    when = f"at {audit.at.isoformat()}" if audit.at else f"on {datetime.now(UTC):%Y-%m-%d}"
    champion = f"version {audit.champion.version} was champion" if audit.champion else "there was no champion"
    count = len(audit.problems)
    result = f"{count} {'problem' if count == 1 else 'problems'} found" if count else "ledger, MLflow and events agree"
    return f"{audit.model}: {when} {champion}; {result}."


def audit_lines(audit: Audit) -> list[str]:
    """Return the champion's rows of the ledger with their evidence, and the checks, as markdown."""
    lines = [f"Checked: {audit.checked}.", *(f"- **{for_markdown(problem)}**" for problem in audit.problems), ""]
    for row in audit.path:
        author = who(row.by) if row.assurance == "automation" else f"{row.by} ({row.assurance} name)"
        lines.append(
            f"- row {row.sequence}, {row.action}, as of {row.as_of:%Y-%m-%d}, written {row.recorded_at}, "
            f"by {for_markdown(author)}: {for_markdown(row.reason)}"
        )
    verdicts = [v for row in reversed(audit.path) if (v := row.evidence.get("verdicts"))]
    if verdicts:
        cells = [
            (v["rule"], v["outcome"], number(v["value"], 5), number(v["threshold"], 5), v["note"]) for v in verdicts[0]
        ]
        lines += ["", *table_lines(("rule", "verdict", "value", "threshold", ""), cells)]
    return lines
