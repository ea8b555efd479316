"""The full ledger of a model: every entry of the chain with who, what, why, how far the name was verified, and its hash."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from tasks.contracts import AUTOMATION, Decision, Fact, Hindsight, Promotion
from tasks.contracts.words import change_text, decision_text, who
from tasks.ledger.chain import Entry, as_stored
from tasks.lifecycle.hindsight import verdict_text
from tasks.reports.pages.template import card_link
from tasks.resources import Resources

COLUMNS = ("#entry", "recorded (UTC)", "as of", "kind", "about", "what", "by", "name verified", "why", "hash")
KINDS = {
    "promotion": "stage change",
    "fact": "signal",
    "decision": "decision",
    "outcome": "outcome of a retraining",
    "hindsight": "measured effect",
}


def ledger_entries(res: Resources) -> tuple[list[list[Any]], list[dict[str, Any]]]:
    """Return all entries of the model's chain, newest first: as rows of a table with `COLUMNS`, and in full, with their evidence."""
    content = _Contents(res)
    rows, full = [], []
    for entry in reversed(res.ledger.chain()):
        item = content.of(entry)
        rows.append(content.row(entry, item))
        full.append({**asdict(entry), "content": _plain(item)})
    return rows, full


class _Contents:
    """What the entries of a chain are about, by kind and key."""

    def __init__(self, res: Resources) -> None:
        self.res, ledger = res, res.ledger
        self.promotions = {str(p.sequence): p for p in ledger.promotions()}
        self.facts = {f.id: f for f in ledger.facts()}
        self.decisions = {d.fact_id: d for d in ledger.decisions()}
        self.effects = {str(h.sequence): h for h in ledger.hindsights()}

    def of(self, entry: Entry) -> Any:
        """Return the promotion, fact, decision or measured effect of an entry; None if it was deleted."""
        kinds: Mapping[str, Mapping[str, Any]] = {
            "promotion": self.promotions,
            "fact": self.facts,
            "decision": self.decisions,
            "outcome": self.decisions,
            "hindsight": self.effects,
        }
        return kinds[entry.kind].get(entry.key)

    def row(self, entry: Entry, item: Any) -> list[Any]:
        """Return an entry as a row of a table."""
        if item is None:
            return [
                entry.number,
                "",
                "",
                KINDS[entry.kind],
                entry.key,
                "deleted: see `make audit`",
                "",
                "",
                "",
                entry.hash[:12],
            ]
        about, what, by, assurance, why = self._text(entry, item)
        recorded: datetime | None = (
            None if entry.kind == "outcome" else item.recorded_at
        )  # its decision was written before
        stamp = f"{recorded:%Y-%m-%d %H:%M:%S}" if recorded else ""
        return [
            entry.number, stamp, f"{item.as_of:%Y-%m-%d}", KINDS[entry.kind], about, what, by, assurance, why, entry.hash[:12],
        ]  # fmt: skip

    def _text(self, entry: Entry, item: Any) -> tuple[Any, str, str, str, str]:
        """Return what an entry is about, what happened, by whom, how far the name was verified, and why."""
        if isinstance(item, Promotion):
            about = card_link(f"version {item.version}", item.version, self.res)
            return about, change_text(item), who(item.by), item.assurance, item.reason
        if isinstance(item, Hindsight):
            return f"version {item.version}", verdict_text(item), who(AUTOMATION), "automation", item.note
        fact = item if isinstance(item, Fact) else self.facts.get(item.fact_id)
        about = f"{fact.kind} in {fact.partition}" if fact and fact.partition else fact.kind if fact else ""
        if isinstance(item, Decision) and entry.kind == "outcome":
            link, gate = (
                card_link(about, item.version, self.res),
                [line for line in item.gate if ": passed" not in line],
            )
            return link, decision_text(item), who(AUTOMATION), "automation", "; ".join(gate) or item.detail
        if isinstance(item, Decision):
            return about, f"{item.action}: {item.rule}", who(AUTOMATION), "automation", item.reason
        return about, str(item.payload.get("told", "")), who(str(item.payload.get("by", AUTOMATION))), "", ""


def _plain(item: Any) -> Any:
    """Return an entry's content as JSON values."""
    if item is None:
        return None
    return {
        name: value.isoformat() if isinstance(value, datetime) else as_stored(value)
        for name, value in asdict(item).items()
    }
