"""Signals with the policy's decisions and their reasons."""

from typing import Any

from tasks.contracts import FOR_PEOPLE
from tasks.contracts.words import decision_text
from tasks.reports.pages.template import card_link
from tasks.resources import Resources

COLUMNS = ("partition", "signal", "description", "decision", "result", "why", "as of")


def decision_rows(res: Resources) -> list[list[Any]]:
    """List partition, signal, decision and reason of every signal, newest first. The decision links to the card of its version."""
    decisions, changes = {d.fact_id: d for d in res.ledger.decisions()}, res.ledger.promotions()
    rows = []
    for f in (f for f in reversed(res.ledger.facts()) if f.kind not in FOR_PEOPLE):
        decision = decisions.get(f.id)
        gate = "; ".join(line for line in (decision.gate if decision else ()) if ": passed" not in line)
        reason = ". ".join(part for part in (decision.reason if decision else "", gate) if part)
        link = card_link(decision_text(decision, changes), decision.version if decision else "", res)
        rows.append([f.partition, f"{f.kind}: {f.payload.get('told', '')}", link, reason])
    return rows


def decision_listing(res: Resources) -> dict[str, Any]:
    """Return all signals and decisions as a table with filters."""
    decisions = {d.fact_id: d for d in res.ledger.decisions()}
    rows = []
    for f, (partition, _, link, reason) in zip(
        (f for f in reversed(res.ledger.facts()) if f.kind not in FOR_PEOPLE), decision_rows(res), strict=True
    ):
        decision = decisions.get(f.id)
        action = decision.action if decision else "none yet"
        rows.append([partition, f.kind, str(f.payload.get("told", "")), action, link, reason, f"{f.as_of:%Y-%m-%d}"])
    return {
        "caption": "signals and decisions, newest first",
        "columns": COLUMNS,
        "rows": rows,
        "filters": [1, 3],
        "name": f"{res.config.name}-decisions",
    }
